// A TCP proxy whose connections can be cut without a goodbye, as a lost network does.
import { connect, createServer } from "node:net";

import { freePort } from "./server.mjs";

export class CuttingProxy {
  static async to(targetPort) {
    const proxy = new CuttingProxy();
    proxy.pairs = new Set();
    proxy.refusing = false;
    proxy.port = await freePort();
    proxy.server = createServer((near) => {
      if (proxy.refusing) return near.resetAndDestroy();
      const far = connect(targetPort, "127.0.0.1");
      const pair = { near, far };
      proxy.pairs.add(pair);
      near.pipe(far).pipe(near);
      for (const socket of [near, far]) {
        socket.on("error", () => {});
        socket.on("close", () => {
          near.destroy();
          far.destroy();
          proxy.pairs.delete(pair);
        });
      }
    });
    await new Promise((resolve) => proxy.server.listen(proxy.port, "127.0.0.1", resolve));
    return proxy;
  }

  // Cuts what is open, and lets nothing in until `mend`.
  cut() {
    this.refusing = true;
    for (const { near, far } of this.pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  mend() {
    this.refusing = false;
  }

  stop() {
    this.cut();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
