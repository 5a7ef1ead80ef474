/** The host of a `Host` header, without its port. */
export function hostName(header: string): string {
  return header.replace(/:\d+$/, '');
}

/** Whether a name or address means this machine to everybody: no other page can take it for its own. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || /^127\.\d+\.\d+\.\d+$/.test(host) || host === '::1' || host === '[::1]';
}

/** Whether a connection's other end is on this machine. */
export function isThisMachine(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address);
}

/** A host a browser can open: any-interface addresses become localhost, IPv6 gets brackets. */
export function urlHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}
