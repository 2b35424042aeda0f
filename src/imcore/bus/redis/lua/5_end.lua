-- The shard's place in history. `position` is raised with each batch: a Redis that knows less than an engine saw has lost
-- its tail, and what it holds is another history from then on. {epoch, shards, 1 if history was lost, format of what is
-- kept: where none is noted it is the first, from before formats were}
function ops.mark(seen, epoch, fresh, shards, format)
  local found = redis.call('HMGET', meta, 'epoch', 'position', 'shards', 'format')
  local lost = 0
  if not found[1] then
    found[1], found[3], found[4] = fresh, shards, format
    redis.call('HSET', meta, 'epoch', fresh, 'shards', shards, 'format', format)
  end
  if epoch == found[1] and tonumber(found[2] or 0) < tonumber(seen) then
    found[1], lost = fresh, 1
    redis.call('HSET', meta, 'epoch', fresh, 'position', seen)
  end
  return {found[1], found[3], lost, found[4] or 1}
end

if remembered then
  local kept = redis.call('GET', remembered)
  kept = kept and cmsgpack.unpack(kept)
  if kept and kept[1] == number then
    return kept[2]
  end
end

local results, at = {}, 8
while ARGV[at] do
  local op, arguments = ops[ARGV[at]], tonumber(ARGV[at + 1])
  local well, result = pcall(op, unpack(ARGV, at + 2, at + 1 + arguments))
  if not well then
    result = {err = 'ERR ' .. string.gsub(type(result) == 'table' and result.err or tostring(result), '[\r\n]', ' ')}
  end
  results[#results + 1] = result
  at = at + 2 + arguments
end
for name, by in pairs(counted) do
  redis.call('HINCRBY', meta, name, text(by))
end
for name, last in pairs(rows) do
  redis.call('HSET', meta, name, text(last))
end
local position = redis.call('HINCRBY', meta, 'position', 1)
local answer = {position, redis.call('XLEN', queue), redis.call('HGET', meta, 'epoch') or '', results}
if remembered then
  redis.call('SET', remembered, cmsgpack.pack({number, answer}), 'PX', 3600000)
end
return answer
