import Actors
import Base
import HTTP
import RaftActor
import StoreActor

extension ClientGateway {
  /// Sees to a request on the client addresses: the API in JSON, or a page beside it.
  func request(_ exchange: HTTPExchange) {
    if let refusal = hostRefusal(exchange) { return exchange.respond(refusal) }
    if exchange.method == "OPTIONS" {
      return exchange.respond(PageResponse(status: 200, headers: []))
    }
    let path = exchange.path
    if path.hasPrefix("/v3/") || path.hasPrefix("/v3beta/"), settings.http.servesGateway {
      let path = path.hasPrefix("/v3/") ? path : "/v3/" + path.dropFirst("/v3beta/".count)
      if cleaned(path) == path { return jsonCall(exchange, path: path) }
    }
    page(exchange, path)
  }

  /// Sees to a request on the addresses of `--listen-metrics-urls`.
  func metricsRequest(_ exchange: HTTPExchange) {
    let path = exchange.path
    if path == "/metrics" || path == "/health" || isProbe(path) {
      page(exchange, path)
    } else {
      exchange.respond(.notFound)
    }
  }

  private func page(_ exchange: HTTPExchange, _ path: String) {
    switch path {
    case "/health": getOnly(exchange) { health(exchange) }
    case _ where isProbe(path): getOnly(exchange) { probe(exchange, path) }
    case "/version":
      getOnly(exchange) {
        exchange.respond(
          PageResponse(
            status: 200, contentType: "application/json",
            body: VersionPage.body(storeStatus.membership)))
      }
    case "/metrics": metricsPage(exchange)
    case "/debug/vars": getOnly(exchange) { exchange.respond(debugVariables()) }
    case _ where path.hasPrefix("/debug/pprof/") && settings.http.servesProfiles:
      exchange.respond(ProfilePages.page(String(path.dropFirst("/debug/pprof/".count))))
    default:
      guard let target = redirection(path) else { return exchange.respond(.notFound) }
      exchange.respond(redirect(exchange, to: target))
    }
  }

  private func getOnly(_ exchange: HTTPExchange, _ body: () -> Void) {
    guard exchange.method == "GET" else {
      return exchange.respond(
        PageResponse(error: 405, "Method Not Allowed", headers: [HTTPField("Allow", "GET")]))
    }
    body()
  }

  // MARK: - Who may ask

  /// Headers that tell browsers which pages may read the answers.
  func commonHeaders(_ headers: HTTP1Headers) -> [HTTPField] {
    guard let origin = settings.http.allowedOrigin(headers.first("origin")) else { return [] }
    return [
      HTTPField("Access-Control-Allow-Headers", "accept, content-type, authorization"),
      HTTPField("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
      HTTPField("Access-Control-Allow-Origin", origin),
    ]
  }

  /// A page that was loaded from elsewhere may have its name resolve to this member's address: what
  /// comes without TLS must name a host that is expected.
  private func hostRefusal(_ exchange: HTTPExchange) -> PageResponse? {
    guard !settings.http.hosts.isEmpty, !exchange.connection.isSecure else { return nil }
    let host = HTTPSettings.hostName(exchange.headers.first("host") ?? "")
    guard !settings.http.hosts.contains(host) else { return nil }
    log.warn("rejecting HTTP request to prevent DNS rebinding attacks", ("host", host))
    exchange.commonHeaders = []
    return PageResponse(error: 421, HTTPSettings.unknownHostText(host))
  }

  // MARK: - Redirections

  /// Where a path that is nobody's should have gone to, by the rules of Go's router.
  private func redirection(_ path: String) -> String? {
    let clean = cleaned(path)
    if clean != path { return clean }
    if path == "/v3", settings.http.servesGateway { return "/v3/" }
    if path == "/debug/pprof", settings.http.servesProfiles { return "/debug/pprof/" }
    return nil
  }

  /// The path without empty, `.` and `..` elements.
  private func cleaned(_ path: String) -> String {
    guard path.contains("//") || path.contains("/.") else { return path }
    var elements: [Substring] = []
    for element in path.split(separator: "/") where element != "." {
      if element == ".." { _ = elements.popLast() } else { elements.append(element) }
    }
    let joined = "/" + elements.joined(separator: "/")
    return path.hasSuffix("/") && joined != "/" ? joined + "/" : joined
  }

  private func redirect(_ exchange: HTTPExchange, to target: String) -> PageResponse {
    let query = exchange.target.firstIndex(of: "?").map { exchange.target[$0...] } ?? ""
    let location = HTTPField("Location", target + query)
    guard exchange.method == "GET" || exchange.method == "HEAD" else {
      return PageResponse(status: 301, headers: [location])
    }
    let escaped = (target + query).replacing("&", with: "&amp;").replacing("<", with: "&lt;")
      .replacing("\"", with: "&#34;").replacing(">", with: "&gt;")
    return PageResponse(
      status: 301, contentType: "text/html; charset=utf-8",
      body: "<a href=\"\(escaped)\">Moved Permanently</a>.\n\n", headers: [location])
  }

  // MARK: - Metrics

  /// Any method will do, as in etcd.
  private func metricsPage(_ exchange: HTTPExchange) {
    updateMetrics()
    metrics.http.metricsRequestsInFlight.add(1)
    var body = metrics.render()
    metrics.http.metricsRequestsInFlight.add(-1)
    metrics.http.metricsRequests.series("200").increment()
    var headers: [HTTPField] = []
    let accepted = exchange.headers.all("accept-encoding").flatMap { $0.split(separator: ",") }
    if accepted.contains(where: { $0.drop { $0 == " " }.prefix { $0 != ";" } == "gzip" }) {
      body = body.withUnsafeBytes { Gzip.compress($0) }
      headers.append(HTTPField("Content-Encoding", "gzip"))
    }
    exchange.respond(
      PageResponse(
        status: 200, contentType: "text/plain; version=0.0.4; charset=utf-8", bytes: body,
        headers: headers))
  }

  /// Gauges that are read off the member's state rather than counted.
  func updateMetrics() {
    refreshStatus()
    metrics.server.hasLeader.set(softState.leader != 0)
    metrics.server.isLeader.set(softState.leader == settings.member)
    metrics.server.isLearner.set(isLearner)
    metrics.server.proposalsCommitted.set(raftStatus.commit)
    metrics.server.proposalsApplied.set(storeStatus.applied)
    metrics.server.proposalsPending.set(waiters.writes)
    metrics.server.authRevision.set(storeStatus.auth.revision)
    metrics.mvcc.openReadTransactions.set(storeStatus.readViews)
    metrics.setAlarms(storeStatus.alarms.map { ($0.member.hex, $0.kind.name) })
    metrics.mvcc.dbTotalSize.set(storeStatus.sizeBytes)
    metrics.mvcc.dbTotalSizeInUse.set(storeStatus.sizeInUseBytes)
    metrics.mvcc.currentRevision.set(storeStatus.revision)
    metrics.mvcc.compactRevision.set(storeStatus.compactRevision)
    metrics.mvcc.keysTotal.set(storeStatus.keyCount)
    metrics.watch.streams.set(storeStatus.watch.streams)
    metrics.watch.watchers.set(storeStatus.watch.watchers)
    metrics.watch.slowWatchers.set(storeStatus.watch.slowWatchers)
    metrics.watch.pendingEvents.set(storeStatus.watch.pendingEvents)
    metrics.watch.events.advance(to: storeStatus.watch.eventsDelivered)
  }
}
