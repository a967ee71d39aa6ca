-- Changes behind one that the caller has.
--
-- KEYS[1]  meta         hash: schema, incarnation, seq, tag
-- KEYS[2]  feed         stream of changes, ids incarnation-seq
-- ARGV[1]  incarnation  of the change that the caller has
-- ARGV[2]  seq
-- ARGV[3]  tag
-- ARGV[4]  how many changes at most
--
-- Returns  {"changes", {entry, ...}}   entries as XRANGE gives them; none when the caller has the last change
--          {"position-lost"}           that change is not in this history, or behind it some are missing
--
-- One step, because a change that comes between two looks would seem to be a gap.
local meta, feed = KEYS[1], KEYS[2]
local incarnation, seq, tag, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local place = redis.call('HMGET', meta, 'incarnation', 'seq', 'tag')
if place[1] ~= incarnation then
  return { 'position-lost' }
end
if place[2] == seq then
  if place[3] == tag then
    return { 'changes', {} }
  end
  return { 'position-lost' }
end

-- The caller's own change comes first, if it is still there: that proves that nothing is missing.
local entries = redis.call('XRANGE', feed, incarnation .. '-' .. seq, '+', 'COUNT', count + 1)
local own = entries[1]
if not own or own[1] ~= incarnation .. '-' .. seq then
  return { 'position-lost' }
end
local fields = own[2]
for i = 1, #fields, 2 do
  if fields[i] == 'tag' and fields[i + 1] ~= tag then
    return { 'position-lost' }
  end
end
table.remove(entries, 1)
return { 'changes', entries }
