-- Tessera's part inside the embedded Prosody (0.12 or later). It reads "peers.json" when it is
-- loaded and whenever the configuration is reloaded, and holds to it:
--   * which domains may be spoken with, in both directions;
--   * where their servers are reached, without DNS;
--   * that a certificate names its domain as a dNSName. Prosody alone also accepts xmppAddr and
--     SRVName, which the name constraints of a peer's authority do not cover;
--   * that no stanza nests deeper than the agent reads: Prosody would relay it.
-- It also sets the password of the agent's account, and tells by "status.json" what it has applied.
module:set_global();

local json = require "util.json";
local st = require "util.stanza";
local set = require "util.set";
local jid_split = require "util.jid".split;
local usermanager = require "core.usermanager";
local portmanager = require "core.portmanager";
local service_resolver = require "net.resolvers.service";
local basic_resolver = require "net.resolvers.basic";
local filters = require "util.filters";

local SUBJECT_ALT_NAME = "2.5.29.17";
local DEPTH_MAX = 64;
local directory = module:get_option_string("tessera_directory");
local expected_ports = module:get_option("tessera_ports", {});

local allowed, routes, generation = set.new(), {}, "";

local function read_json(name)
	local file = io.open(directory .. "/" .. name, "r");
	if not file then return nil; end
	local text = file:read("*a");
	file:close();
	return json.decode(text);
end

local function write_status(status)
	local path = directory .. "/status.json";
	local file = assert(io.open(path .. ".new", "w"));
	file:write(json.encode(status));
	file:close();
	assert(os.rename(path .. ".new", path));
end

local function load_peers()
	local peers = read_json("peers.json");
	if not peers then
		module:log("error", "peers.json cannot be read; what was known stays in force");
		return;
	end
	allowed = set.new(peers.allowed);
	routes = peers.routes;
	generation = peers.generation;
end

-- Routing: the resolver of every outgoing stream is made here.
local new_service = service_resolver.new;
function service_resolver.new(host, service, conn_type, extra)
	local route = routes[host];
	if not route then return new_service(host, service, conn_type, extra); end
	if service == "xmpps-server" then
		-- The route is for STARTTLS; an empty list of targets leads on to it.
		return require "net.resolvers.manual".new({}, conn_type, extra);
	end
	return basic_resolver.new(route.host, route.port, "tcp", extra);
end

function module.unload()
	service_resolver.new = new_service;
end

-- Admission of servers.
local function refuse(session, text)
	session.log("warn", "Refused: %s", text);
	session:close({ condition = "policy-violation", text = text });
	return false;
end

local function names_host(cert, host)
	local extensions = cert:extensions();
	local names = extensions and extensions[SUBJECT_ALT_NAME];
	for _, name in ipairs(names and names["dNSName"] or {}) do
		if name:lower() == host then return true; end
	end
	return false;
end

module:hook("s2s-check-certificate", function (event)
	local session, host, cert = event.session, event.host, event.cert;
	if not host or not allowed:contains(host) then
		return refuse(session, "this domain is not a peer");
	end
	if not cert or not names_host(cert, host) then
		return refuse(session, "the certificate does not name the domain");
	end
	session.tessera_checked = host;
end, 600);

function module.add_host(module)
	module:hook("s2s-stream-features", function (event)
		local session = event.origin;
		if session.type ~= "s2sin_unauthed" then return; end
		local host = session.from_host;
		if not host or not allowed:contains(host) then
			refuse(session, "this domain is not a peer");
			return true;
		end
		if session.secure and session.tessera_checked ~= host then
			refuse(session, "the certificate was not checked for this domain");
			return true;
		end
	end, 1000);

	module:hook("route/remote", function (event)
		if allowed:contains(event.to_host) then return; end
		local stanza = event.stanza;
		module:log("info", "Not sent: %s is not a peer", event.to_host);
		if stanza.attr.type ~= "error" and stanza.attr.type ~= "result" then
			module:send(st.error_reply(stanza, "cancel", "not-allowed", "this domain is not a peer"));
		end
		return true;
	end, 100);
end

-- Depth, level by level, without recursion.
local function too_deep(stanza)
	local level, depth = { stanza }, 0;
	while level[1] do
		depth = depth + 1;
		if depth > DEPTH_MAX then return true; end
		local below = {};
		for _, element in ipairs(level) do
			for _, child in ipairs(element.tags) do below[#below + 1] = child; end
		end
		level = below;
	end
	return false;
end

local function drop_deep(stanza, session)
	if not too_deep(stanza) then return stanza; end
	session.log("warn", "Dropped: a stanza nests deeper than %d", DEPTH_MAX);
	return nil;
end

filters.add_filter_hook(function (session)
	filters.add_filter(session, "stanzas/in", drop_deep);
end);

local function close_removed()
	for session in pairs(prosody.incoming_s2s) do
		if session.from_host and not allowed:contains(session.from_host) then
			refuse(session, "this domain is no longer a peer");
		end
	end
	for _, host in pairs(prosody.hosts) do
		for to_host, session in pairs(host.s2sout or {}) do
			if not allowed:contains(to_host) then
				refuse(session, "this domain is no longer a peer");
			end
		end
	end
end

-- The agent's account. The file is removed once the password is set.
local function set_account()
	local account = read_json("account.json");
	if not account then return; end
	local user, host = jid_split(account.jid);
	local ok, err;
	if usermanager.user_exists(user, host) then
		ok, err = usermanager.set_password(user, account.password, host);
	else
		ok, err = usermanager.create_user(user, account.password, host);
	end
	if not ok then module:log("error", "The agent's account cannot be set: %s", err); end
	os.remove(directory .. "/account.json");
end

local function closed_ports()
	local closed = {};
	for _, port in ipairs(expected_ports) do
		if not portmanager.get_service_at(port.host, port.port) then
			table.insert(closed, ("%s:%d"):format(port.host, port.port));
		end
	end
	return closed;
end

local function report()
	write_status({ generation = generation; closed = table.concat(closed_ports(), " ") });
end

load_peers();

module:hook("server-started", function ()
	set_account();
	-- A little later, when mod_posix has its signal handlers: who reads the status may send SIGHUP.
	module:add_timer(0.005, report);
end, -100);

-- After mod_tls has read the authorities again.
module:hook("config-reloaded", function ()
	load_peers();
	close_removed();
	report();
end, -100);
