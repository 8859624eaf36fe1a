// Keeps a client on this machine: what it tries to reach beyond is refused and written down.
import dns from "node:dns";
import fs from "node:fs";
import net from "node:net";

const HERE = /^(localhost|127\.[\d.]+|::1|)$/;

function refuse(host) {
  fs.appendFileSync(process.env.RAPPORT_STRAYED, `${host}\n`);
  return new Error(`${host} is not this machine`);
}

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const [options] = Array.isArray(args[0]) ? args[0] : args;
  const host = options?.host ?? (typeof args[1] === "string" ? args[1] : "localhost");
  if (!HERE.test(host)) throw refuse(host);
  return connect.apply(this, args);
};

const lookup = dns.lookup;
dns.lookup = function (host, ...rest) {
  if (!HERE.test(host ?? "")) return rest.at(-1)(refuse(host));
  return lookup.call(this, host, ...rest);
};
