// Package web is Hayloft's own web page: HTML, style sheets and JavaScript
// modules, embedded, served as they are. No build step, no framework, nothing
// fetched from elsewhere. docs/web.md describes the page itself.
//
// The package knows no HTTP server. It offers a table of assets with their
// content type, strong ETag and caching, and the header fields that go with
// them; package api serves both.
//
// Caching: all but the document live under /static/{digest}/, where digest
// covers every file. They never change and are cached for ever; a new build has
// new addresses, so a browser never mixes modules of two builds. The document
// at / is revalidated each time.
//
// Threads: everything is computed once and read-only afterwards. Bodies belong
// to the package and must not be changed.
package web
