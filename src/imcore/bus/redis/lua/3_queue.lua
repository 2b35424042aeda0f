-- The uplink queue. `up` is a stream whose entry N-0 is message N, read by the group of services; who consumes a shard
-- has its `lease`. `dead` maps numbers to letters: when, length of the error, error and message. An entry leaves when it is acknowledged.

-- Decimal numbers without zeros in front: they may be too large for a double.
local function above(one, other)
  return #one > #other or (#one == #other and one > other)
end

-- 1: it is new; 0: a repeat. An empty message is a number that the device gave up.
function ops.put(user, device, id, message)
  local state = tag .. 'user:' .. user
  local accepted = redis.call('HGET', state, 'a:' .. device)
  if accepted and not above(id, accepted) then
    count('repeated', 1)
    return 0
  end
  redis.call('HSET', state, 'a:' .. device, id)
  if message == '' then
    count('withdrawn', 1)
  else
    redis.call('XADD', queue, text(next_of('entry')) .. '-0', 'm', message)
    count('accepted', 1)
  end
  return 1
end

local function leave(entry)
  if redis.call('XACK', queue, group, entry .. '-0') == 0 then
    return false
  end
  redis.call('XDEL', queue, entry .. '-0')
  return true
end

function ops.settle(entry)
  if leave(entry) then
    count('settled', 1)
  end
  return 0
end

function ops.bury(entry, message, error)
  if leave(entry) then
    redis.call('HSET', tag .. 'dead', text(next_of('letter')), text(now) .. ' ' .. #error .. ' ' .. error .. message)
    count('dead', 1)
  end
  return 0
end

-- A letter comes to its handler again, or is given up. 0: there is none of that number.
function ops.letter(number, action)
  local letter = redis.call('HGET', tag .. 'dead', number)
  if not letter then
    return 0
  end
  redis.call('HDEL', tag .. 'dead', number)
  if action == 'replay' then
    local _, head, size = string.find(letter, '^%d+ (%d+) ')
    local message = string.sub(letter, head + size + 1)
    redis.call('XADD', queue, text(next_of('entry')) .. '-0', 'm', message)
    count('replayed', 1)
  else
    count('dropped', 1)
  end
  return 1
end

-- Consume this shard for so many ms. 1: I do; 0: somebody else does.
function ops.lease(ms)
  local key = tag .. 'lease'
  local holder = redis.call('GET', key)
  if holder and holder ~= client then
    return 0
  end
  redis.call('SET', key, client, 'PX', ms)
  if not holder then
    redis.pcall('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM')
  end
  return 1
end

function ops.unlease()
  if redis.call('GET', tag .. 'lease') == client then
    redis.call('DEL', tag .. 'lease')
  end
  return 0
end

-- Who serves, on the one shard that keeps it: `services` maps clients to {until, routes}. Who has been gone for a day is
-- forgotten, and with it what only it served. Without routes this is only a look. {now, values, ...}
function ops.serve(ms, routes)
  local key = tag .. 'services'
  if routes ~= '' then
    redis.call('HSET', key, client, cmsgpack.pack({now + ms, routes}))
  end
  local found = {now}
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local value = cmsgpack.unpack(fields[i + 1])
    if value[1] < now - 86400000 then
      redis.call('HDEL', key, fields[i])
    else
      found[#found + 1] = {fields[i], value[1], value[2]}
    end
  end
  return found
end

-- It ends in good order: others need not wait for its time to be up. Its routes stay known.
function ops.unserve()
  local key = tag .. 'services'
  local value = redis.call('HGET', key, client)
  if value then
    redis.call('HSET', key, client, cmsgpack.pack({now, cmsgpack.unpack(value)[2]}))
  end
  return 0
end
