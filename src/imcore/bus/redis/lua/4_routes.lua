-- Routes and rooms: which nodes hold which links. `routes:USER` maps `order:way:life:node` to {device, place, since,
-- client}; `room:NAME` maps nodes that have members to their lives. Both are soft state: what a node holds that died
-- counts for nothing, and what was wiped is put back by the nodes.
local ROUTE_MS = 90000000

-- Lengthen the lease of a node, and keep its wake-ups readable. 1: it was there; 0: it is new, or was wiped.
function ops.node(node, life, ms)
  local known = alive(node, life)
  redis.call('HSET', tag .. 'nodes', node, life .. ' ' .. text(now + ms))
  redis.call('PEXPIRE', wakes(node), 60000)
  lives[node] = life
  return known and 1 or 0
end

-- The node ends in good order.
function ops.bye(node, life)
  if alive(node, life) then
    redis.call('HDEL', tag .. 'nodes', node)
    redis.call('DEL', wakes(node))
    lives[node] = ''
  end
  return 0
end

-- What was read of a node's wake-ups.
function ops.read_up_to(node, id)
  redis.call('XTRIM', wakes(node), 'MINID', '~', id)
  return 0
end

local function parse(field, value)
  local order, way, life, node = string.match(field, '^(%d+):(%a+):(%x+):(.*)$')
  local kept = cmsgpack.unpack(value)
  return {order = tonumber(order), way = way, life = life, node = node, device = kept[1], place = kept[2]}
end

local function rivals(one, other)
  local apart = one.device == other.device and one.way ~= other.way and one.way ~= 'both' and other.way ~= 'both'
  return one.place == other.place and not apart and (one.order ~= other.order or one.node ~= other.node)
end

local function newer(one, other)
  return one.order > other.order or (one.order == other.order and one.node > other.node)
end

-- Stand, unless a newer rival does. {the newer rival's field and value, or '', then field and value of those of this node
-- that fell}
function ops.claim(user, field, value)
  local key = tag .. 'routes:' .. user
  local mine = parse(field, value)
  local fields, fallen = redis.call('HGETALL', key), {}
  for i = 1, #fields, 2 do
    local other = parse(fields[i], fields[i + 1])
    if not alive(other.node, other.life) and other.life ~= mine.life then
      redis.call('HDEL', key, fields[i])
    elseif rivals(mine, other) then
      if newer(other, mine) then
        return {fields[i], fields[i + 1]}
      end
      fallen[#fallen + 1] = i
    end
  end
  local told = {'', ''}
  for _, i in ipairs(fallen) do
    redis.call('HDEL', key, fields[i])
    local other = parse(fields[i], fields[i + 1])
    if other.node == mine.node then
      told[#told + 1] = fields[i]
      told[#told + 1] = fields[i + 1]
    else
      redis.call('XADD', wakes(other.node), '*', 'f', user, 'o', fields[i], 'v', fields[i + 1], 'n', field, 'w', value)
    end
  end
  redis.call('HSET', key, field, value)
  redis.call('PEXPIRE', key, ROUTE_MS)
  return told
end

-- Whether a device has a link down, told to the service once: `told` has those that it knows to be on, and when that was
-- last looked at. 1: it was told now.
function ops.presence(user, device, on, off)
  local key, place, standing = tag .. 'told', cmsgpack.pack({user, device}), false
  local fields = redis.call('HGETALL', tag .. 'routes:' .. user)
  for i = 1, #fields, 2 do
    local route = parse(fields[i], fields[i + 1])
    standing = standing or (route.device == device and route.way ~= 'up' and alive(route.node, route.life))
  end
  local known = redis.call('ZSCORE', key, place)
  if standing then
    redis.call('ZADD', key, text(now), place)
  elseif known then
    redis.call('ZREM', key, place)
  end
  if standing == (known and true or false) then
    return 0
  end
  redis.call('XADD', queue, text(next_of('entry')) .. '-0', 'm', standing and on or off)
  count('accepted', 1)
  return 1
end

-- Devices that the service knows to be on and that were not looked at for so long: {user, device} of a few. Their nodes
-- may have died.
function ops.unseen(ms, most)
  local found = {}
  for _, place in ipairs(redis.call('ZRANGEBYSCORE', tag .. 'told', '-inf', text(now - ms), 'LIMIT', 0, most)) do
    found[#found + 1] = cmsgpack.unpack(place)
  end
  return found
end

function ops.release(user, field)
  redis.call('HDEL', tag .. 'routes:' .. user, field)
  return 0
end

-- {field, value, ...} of what stands.
function ops.online(user)
  local fields, found = redis.call('HGETALL', tag .. 'routes:' .. user), {}
  for i = 1, #fields, 2 do
    local life, node = string.match(fields[i], '^%d+:%a+:(%x+):(.*)$')
    if alive(node, life) then
      found[#found + 1] = fields[i]
      found[#found + 1] = fields[i + 1]
    end
  end
  return found
end

-- How a node does, for whoever watches.
function ops.report(load)
  redis.call('XADD', tag .. 'loads', 'MAXLEN', '~', 1000, '*', 'l', load)
  return 0
end

function ops.member(room, node, life)
  redis.call('HSET', tag .. 'room:' .. room, node, life)
  return 0
end

function ops.no_member(room, node)
  redis.call('HDEL', tag .. 'room:' .. room, node)
  return 0
end

-- What a device says in a room, to where it hears. To how many nodes that was.
function ops.say(user, device, room, body)
  local fields, told = redis.call('HGETALL', tag .. 'routes:' .. user), 0
  for i = 1, #fields, 2 do
    local route = parse(fields[i], fields[i + 1])
    if route.device == device and route.way ~= 'up' and alive(route.node, route.life) then
      redis.call('XADD', wakes(route.node), 'MAXLEN', '~', 100000, '*', 's', user, 'd', device, 'x', room, 'b', body)
      told = told + 1
    end
  end
  return told
end

-- One copy to each node that has members, but for the one that asks.
function ops.broadcast(room, body, here)
  local key = tag .. 'room:' .. room
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local node = fields[i]
    if not alive(node, fields[i + 1]) then
      redis.call('HDEL', key, node)
    elseif node ~= here then
      redis.call('XADD', wakes(node), 'MAXLEN', '~', 100000, '*', 'x', room, 'b', body)
    end
  end
  return 0
end
