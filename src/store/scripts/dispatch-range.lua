-- Entries of an index between two others, in order.
--
-- KEYS[1]  index        sorted set
-- ARGV[1]  low score    what is asked for lies behind this entry; "-inf" for all
-- ARGV[2]  low member   "" for all of that score
-- ARGV[3]  high score   and before this one; "inf" for all
-- ARGV[4]  high member  the character 127 for all of that score
-- ARGV[5]  limit
-- ARGV[6]  "first" of them, or "last"
--
-- Returns  {member, score, ...}, by rising score, then by rising member
--
-- One step, because ranks are looked up first and must still be those of the same entries when they are read. Nothing is walked:
-- Redis finds the rank of a score at once, but not of a member that is not there, which is searched by halving.
local index = KEYS[1]
local low_score, low_member, high_score, high_member = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local limit, side = tonumber(ARGV[5]), ARGV[6]

-- By bytes, as Redis sorts; Lua's own < goes by the locale of the server.
local function is_before(one, other)
  for i = 1, math.min(#one, #other) do
    local byte, other_byte = string.byte(one, i), string.byte(other, i)
    if byte ~= other_byte then
      return byte < other_byte
    end
  end
  return #one < #other
end

-- How many entries come before this one; with itself, if it is there.
local function rank_of(score, member, with_itself)
  local from = redis.call('ZCOUNT', index, '-inf', '(' .. score)
  if member == '' then
    return from
  end
  local to = redis.call('ZCOUNT', index, '-inf', score)
  if member == '\127' then
    return to
  end
  while from < to do
    local middle = math.floor((from + to) / 2)
    local found = redis.call('ZRANGE', index, middle, middle)[1]
    if is_before(found, member) or (with_itself and found == member) then
      from = middle + 1
    else
      to = middle
    end
  end
  return from
end

local from = rank_of(low_score, low_member, true)
local to = rank_of(high_score, high_member, false)
if side == 'last' then
  from = math.max(from, to - limit)
else
  to = math.min(to, from + limit)
end
if from >= to then
  return {}
end
return redis.call('ZRANGE', index, from, to - 1, 'WITHSCORES')
