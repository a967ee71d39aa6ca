-- Takes a node's lease, and begins the directory if there is none.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  leases       sorted set: node -> end of its lease in ms of TIME
-- KEYS[3]  nodes        hash: node -> "epoch part record"
-- KEYS[4]  digests      hash: node -> digest
-- KEYS[5]  feed         stream, ids incarnation-seq
-- KEYS[6]  garbage      set: "node epoch"
-- ARGV[1]  node
-- ARGV[2]  epoch
-- ARGV[3]  digest part of the record
-- ARGV[4]  record as JSON
-- ARGV[5]  lease in milliseconds, from now
-- ARGV[6]  the caller's previous epoch, which may be replaced while it lives; "" for none
-- ARGV[7]  length to which the feed is trimmed, about
--
-- Returns  {"taken"}                         the lease is the caller's; taken again by the same epoch: renewed
--          {"held", end of lease, ms left}   another epoch holds a live lease of this node
--
-- One step, because two processes with one node id must not both believe that they hold it.
local meta, leases, nodes, digests, feed, garbage = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local node, epoch, part, record = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lease_ms, previous_epoch, feed_max = tonumber(ARGV[5]), ARGV[6], ARGV[7]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local ends_ms = string.format('%.0f', now_ms + lease_ms)

local held = redis.call('HGET', nodes, node)
local held_epoch = held and string.match(held, '^(%S+)')
if held_epoch and held_epoch ~= epoch and held_epoch ~= previous_epoch then
  local held_until = redis.call('ZSCORE', leases, node)
  if held_until and tonumber(held_until) > now_ms then
    return { 'held', held_until, string.format('%.0f', tonumber(held_until) - now_ms) }
  end
end

if redis.call('HEXISTS', meta, 'incarnation') == 0 then
  -- Ids of the old stream could be above those to come, if the clock went back.
  redis.call('DEL', feed)
  redis.call('HSET', meta, 'schema', '1', 'incarnation', string.format('%.0f', now_ms), 'seq', '0')
end

redis.call('ZADD', leases, ends_ms, node)
if held_epoch == epoch then
  return { 'taken' }
end
if held_epoch then
  redis.call('SADD', garbage, node .. ' ' .. held_epoch)
end
if previous_epoch ~= '' then
  redis.call('SADD', garbage, node .. ' ' .. previous_epoch)
end
redis.call('HSET', nodes, node, epoch .. ' ' .. part .. ' ' .. record)
redis.call('HSET', digests, node, part)

local id = redis.call('HGET', meta, 'incarnation') .. '-' .. string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
redis.call('XADD', feed, 'MAXLEN', '~', feed_max, id,
  'type', 'node', 'node', node, 'epoch', epoch, 'digest', part, 'data', part .. ' ' .. record)
return { 'taken' }
