-- Removes nodes whose lease has not moved since it was seen.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  leases       sorted set: node -> end of its lease in ms of TIME
-- KEYS[3]  nodes        hash: node -> "epoch part record"
-- KEYS[4]  digests      hash: node -> digest
-- KEYS[5]  feed         stream, ids incarnation-seq
-- KEYS[6]  garbage      set: "node epoch"
-- ARGV[1]  why          "expired" or "expelled"
-- ARGV[2]  length to which the feed is trimmed, about
-- ARGV[3]  node, ARGV[4] end of its lease as it was seen, "0" for none; further pairs
--
-- Returns  how many were removed: those that renewed meanwhile, or were removed by others, are not
--
-- One step, because a node that renews between the look and the removal must stay.
local meta, leases, nodes, digests, feed, garbage = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local why, feed_max = ARGV[1], ARGV[2]

local incarnation = redis.call('HGET', meta, 'incarnation')
local removed = 0
for i = 3, #ARGV, 2 do
  local node, seen_ms = ARGV[i], ARGV[i + 1]
  local held = redis.call('HGET', nodes, node)
  local ends_ms = redis.call('ZSCORE', leases, node) or '0'
  if tonumber(ends_ms) == tonumber(seen_ms) then
    redis.call('ZREM', leases, node)
    redis.call('HDEL', nodes, node)
    redis.call('HDEL', digests, node)
    if held and incarnation then
      local epoch = string.match(held, '^(%S+)') or ''
      redis.call('SADD', garbage, node .. ' ' .. epoch)
      local id = incarnation .. '-' .. string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
      redis.call('XADD', feed, 'MAXLEN', '~', feed_max, id,
        'type', 'node-gone', 'node', node, 'epoch', epoch, 'data', why)
      removed = removed + 1
    end
  end
end
return removed
