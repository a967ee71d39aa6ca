-- Replaces the record of a node that holds its lease.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq
-- KEYS[2]  nodes        hash: node -> "epoch part record"
-- KEYS[3]  digests      hash: node -> digest
-- KEYS[4]  feed         stream, ids incarnation-seq
-- ARGV[1]  node
-- ARGV[2]  epoch
-- ARGV[3]  digest part of the new record
-- ARGV[4]  new record as JSON
-- ARGV[5]  length to which the feed is trimmed, about
--
-- Returns  "written", "lease-lost"
--
-- One step, because record, digest and feed must agree.
local meta, nodes, digests, feed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local node, epoch, part, record, feed_max = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local held = redis.call('HGET', nodes, node)
local held_epoch, held_part = string.match(held or '', '^(%S+) (%d+)')
local incarnation = redis.call('HGET', meta, 'incarnation')
if held_epoch ~= epoch or not incarnation then
  return 'lease-lost'
end

local digest = (tonumber(redis.call('HGET', digests, node) or '0') + part - held_part) % 281474976710656
local digest_text = string.format('%.0f', digest)
redis.call('HSET', nodes, node, epoch .. ' ' .. part .. ' ' .. record)
redis.call('HSET', digests, node, digest_text)
local id = incarnation .. '-' .. string.format('%.0f', redis.call('HINCRBY', meta, 'seq', 1))
redis.call('XADD', feed, 'MAXLEN', '~', feed_max, id,
  'type', 'node', 'node', node, 'epoch', epoch, 'digest', digest_text, 'data', part .. ' ' .. record)
return 'written'
