-- Writes records back into a Redis that has lost them all.
--
-- KEYS[1]  meta                hash: schema, incarnation, seq, tag
-- KEYS[2]  namespaces          hash: namespace -> "version text"
-- KEYS[3]  hybrid connections  hash: namespace/name -> "version text"
-- KEYS[4]  feed                stream of changes, ids incarnation-seq
-- ARGV[1]  tag of the history that begins here, random
-- ARGV[2]  how many of the records are of namespaces; they come first
-- ARGV[3]  key, ARGV[4] record as JSON; further pairs
--
-- Returns  1 written, 0 there are records: another node was first, or nothing was lost
--
-- One step, because several nodes notice the loss at once and only one may begin the new history.
local meta, namespaces, hybrid_connections, feed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local tag, namespace_count = ARGV[1], tonumber(ARGV[2])

if redis.call('HEXISTS', meta, 'incarnation') == 1 then
  return 0
end
local time = redis.call('TIME')
local incarnation = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('DEL', namespaces, hybrid_connections, feed)
local seq = 0
for i = 3, #ARGV, 2 do
  seq = seq + 1
  local records = seq <= namespace_count and namespaces or hybrid_connections
  redis.call('HSET', records, ARGV[i], string.format('%.0f', seq) .. ' ' .. ARGV[i + 1])
end
redis.call('HSET', meta, 'schema', '1', 'incarnation', incarnation, 'seq', string.format('%.0f', seq), 'tag', tag)
return 1
