-- Writes one record, if it still has the version that the writer knew.
--
-- KEYS[1]  meta       hash: schema, incarnation, seq, tag
-- KEYS[2]  records    hash of this kind of records: key -> "version text"
-- KEYS[3]  feed       stream of changes, ids incarnation-seq
-- ARGV[1]  key of the record
-- ARGV[2]  version that is expected, 0 for none
-- ARGV[3]  the record as JSON
-- ARGV[4]  how many records of this kind there may be with it, 0 for any number
-- ARGV[5]  tag of this change, random
-- ARGV[6]  length to which the feed is trimmed, about
--
-- Returns  {"written", incarnation, seq}
--          {"conflict", version}   the version it has, "0" for none
--          {"full"}                only for a record that is not there yet
--
-- One step, because two nodes that change one record at once must not both succeed, and the feed must tell
-- changes in the order in which they were made.
local meta, records, feed = KEYS[1], KEYS[2], KEYS[3]
local key, expected, text, records_max = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local tag, feed_max = ARGV[5], ARGV[6]

local version = string.match(redis.call('HGET', records, key) or '0 ', '^(%d+) ')
if version ~= expected then
  return { 'conflict', version or '-1' }
end
if version == '0' and records_max > 0 and redis.call('HLEN', records) >= records_max then
  return { 'full' }
end

local incarnation = redis.call('HGET', meta, 'incarnation')
if not incarnation then
  local time = redis.call('TIME')
  incarnation = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  -- Ids of an old stream could be above those to come, if the clock went back.
  redis.call('DEL', feed)
  redis.call('HSET', meta, 'schema', '1', 'incarnation', incarnation, 'seq', '0')
end
local seq = string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
redis.call('HSET', meta, 'tag', tag)
redis.call('HSET', records, key, seq .. ' ' .. text)
redis.call('XADD', feed, 'MAXLEN', '~', feed_max, incarnation .. '-' .. seq, 'key', key, 'tag', tag, 'text', text)
return { 'written', incarnation, seq }
