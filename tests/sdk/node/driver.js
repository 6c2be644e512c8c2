// Makes calls with the official Stripe SDK, as a test tells it: one JSON document per line in, one out. Node resolves
// packages beside the script, and this one's are installed outside the repository: argument 1 is that directory.
'use strict';
const {createRequire} = require('node:module');
const http = require('node:http');
const readline = require('node:readline');
const Stripe = createRequire(process.argv[2] + '/')('stripe');

// The SDK takes a host, not a base URL: the provider's name in the path, and the caller's token, go in through its HTTP
// client. docs/sdk.md shows this function.
function throughProxy(prefix, token) {
  const client = Stripe.createNodeHttpClient(new http.Agent());
  const send = client.makeRequest.bind(client);
  client.makeRequest = (host, port, path, method, headers, ...rest) =>
    send(host, port, prefix + path, method, token ? {...headers, 'Dedup-Token': token} : headers, ...rest);
  return client;
}

function sdk(order) {
  const base = new URL(order.base);
  return new Stripe(order.apiKey, {
    protocol: 'http',
    host: base.hostname,
    port: base.port,
    httpClient: throughProxy(base.pathname.replace(/\/$/, ''), order.token),
    telemetry: false,
    ...(order.retries === null ? {} : {maxNetworkRetries: order.retries}),
  });
}

const CALLS = {
  'create customer': (stripe, order, options) => stripe.customers.create(order.params, options),
  'delete customer': (stripe, order) => stripe.customers.del('cus_1'),
  'retrieve customer': (stripe) => stripe.customers.retrieve('cus_1'),
  'create refund': (stripe, order, options) => stripe.refunds.create(order.params, options),
  'create payout': (stripe, order, options) => stripe.payouts.create(order.params, options),
  'raw post': (stripe, order, options) => stripe.rawRequest('POST', order.path, order.params, options),
};

async function carryOut(order) {
  const options = {...(order.key ? {idempotencyKey: order.key} : {})};
  if (order.headers) options.additionalHeaders = order.headers;
  try {
    const object = await CALLS[order.call](sdk(order), order, options);
    return {raised: null, returned: object};
  } catch (error) {
    return {
      raised: error.constructor.name,
      type: error.type ?? null,
      isStripeError: error instanceof Stripe.errors.StripeError,
      message: error.message,
      status: error.statusCode ?? null,
      code: error.code ?? null,
      headers: error.headers ?? {},
    };
  }
}

readline.createInterface({input: process.stdin}).on('line', async (line) => {
  const {id, ...order} = JSON.parse(line);
  process.stdout.write(JSON.stringify({id, ...(await carryOut(order))}) + '\n');
});
process.stdout.write(JSON.stringify({id: 0, version: Stripe.PACKAGE_VERSION}) + '\n');
