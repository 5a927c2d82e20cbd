// Search without a server: a browser starts no Worker for a page that was opened as a file. This one runs the
// script of a worker in a hidden frame, with the part of the interface that the theme's search uses.

class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.appendChild(this.frame);
    window.addEventListener("message", (event) => {
      if (event.source === this.frame.contentWindow)
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
    });
    this.ready = new Promise((resolve) => this.frame.addEventListener("load", resolve));
    const content = this.frame.contentDocument;
    content.open();
    content.write(`<script>
      // The worker's own messages go to the page; importScripts waits for each script.
      window.postMessage = (data) => parent.postMessage(data, "*");
      window.importScripts = (...urls) => urls.reduce(
        (loaded, address) => loaded.then(() => new Promise((resolve, reject) => {
          const script = document.createElement("script");
          Object.assign(script, { src: address, onload: resolve, onerror: reject });
          document.head.appendChild(script);
        })), Promise.resolve());
    </script><script src="${url}"></script>`);
    content.close();
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker;
