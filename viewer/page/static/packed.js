"use strict";
// What a page has compressed: gzip in base64.
function gunzip(stored) {
  const bytes = Uint8Array.from(atob(stored), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
