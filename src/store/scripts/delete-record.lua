-- Deletes one record, if it still has the version that the caller knew.
--
-- KEYS[1]  meta       hash: schema, incarnation, seq, tag
-- KEYS[2]  records    hash of this kind of records: key -> "version text"
-- KEYS[3]  feed       stream of changes, ids incarnation-seq
-- ARGV[1]  key of the record
-- ARGV[2]  version that is expected
-- ARGV[3]  tag of this change, random
-- ARGV[4]  length to which the feed is trimmed, about
--
-- Returns  {"written", incarnation, seq}
--          {"conflict", version}   the version it has, "0" for none
--
-- One step, for the reasons of put-record.lua.
local meta, records, feed = KEYS[1], KEYS[2], KEYS[3]
local key, expected, tag, feed_max = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local version = string.match(redis.call('HGET', records, key) or '0 ', '^(%d+) ')
local incarnation = redis.call('HGET', meta, 'incarnation')
if version ~= expected or version == '0' or not incarnation then
  return { 'conflict', version or '-1' }
end

local seq = string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
redis.call('HSET', meta, 'tag', tag)
redis.call('HDEL', records, key)
redis.call('XADD', feed, 'MAXLEN', '~', feed_max, incarnation .. '-' .. seq, 'key', key, 'tag', tag, 'text', '')
return { 'written', incarnation, seq }
