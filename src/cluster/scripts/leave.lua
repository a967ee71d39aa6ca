-- Gives up a node's lease.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  leases       sorted set: node -> end of its lease in ms of TIME
-- KEYS[3]  nodes        hash: node -> "epoch part record"
-- KEYS[4]  digests      hash: node -> digest
-- KEYS[5]  feed         stream, ids incarnation-seq
-- KEYS[6]  garbage      set: "node epoch"
-- ARGV[1]  node
-- ARGV[2]  epoch
-- ARGV[3]  length to which the feed is trimmed, about
--
-- Returns  "left", "lease-lost" when the lease was not the caller's any more
--
-- One step, because the lease could be taken by another epoch between the look and the removal.
local meta, leases, nodes, digests, feed, garbage = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local node, epoch, feed_max = ARGV[1], ARGV[2], ARGV[3]

local incarnation = redis.call('HGET', meta, 'incarnation')
if string.match(redis.call('HGET', nodes, node) or '', '^(%S+)') ~= epoch or not incarnation then
  return 'lease-lost'
end
redis.call('ZREM', leases, node)
redis.call('HDEL', nodes, node)
redis.call('HDEL', digests, node)
redis.call('SADD', garbage, node .. ' ' .. epoch)
local id = incarnation .. '-' .. string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
redis.call('XADD', feed, 'MAXLEN', '~', feed_max, id,
  'type', 'node-gone', 'node', node, 'epoch', epoch, 'data', 'left')
return 'left'
