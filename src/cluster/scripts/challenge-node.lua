-- Announces that somebody suspects a node to be dead; a live one answers by renewing its lease.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  leases       sorted set: node -> end of its lease in ms of TIME
-- KEYS[3]  nodes        hash: node -> "epoch part record"
-- KEYS[4]  feed         stream, ids incarnation-seq
-- ARGV[1]  node
-- ARGV[2]  length to which the feed is trimmed, about
--
-- Returns  {"challenged", end of its lease}, {"gone"} when there is no such node
--
-- One step, because a renewal that comes after the challenge must be seen as one.
local meta, leases, nodes, feed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local node, feed_max = ARGV[1], ARGV[2]

local epoch = string.match(redis.call('HGET', nodes, node) or '', '^(%S+)')
local ends_ms = redis.call('ZSCORE', leases, node)
local incarnation = redis.call('HGET', meta, 'incarnation')
if not epoch or not ends_ms or not incarnation then
  return { 'gone' }
end
local id = incarnation .. '-' .. string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
redis.call('XADD', feed, 'MAXLEN', '~', feed_max, id, 'type', 'challenge', 'node', node, 'epoch', epoch)
return { 'challenged', ends_ms }
