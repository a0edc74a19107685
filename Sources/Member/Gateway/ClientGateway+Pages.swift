import Actors
import Base
import EtcdAPI
import Foundation
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

extension ClientGateway {
  /// Answers a page beside the API.
  func page(_ request: PageRequest, _ respond: @escaping (PageResponse) -> Void) {
    if request.method == "OPTIONS" {
      return respond(PageResponse(status: 200, contentType: "text/plain", body: ""))
    }
    switch request.path {
    case "/health": getOnly(request, respond) { health(request, respond) }
    case "/livez", "/readyz":
      getOnly(request, respond) { check(request, respond) }
    case "/version":
      getOnly(request, respond) {
        respond(PageResponse(status: 200, contentType: "application/json", body: version))
      }
    case "/metrics":
      getOnly(request, respond) {
        updateMetrics()
        respond(
          PageResponse(
            status: 200, contentType: "text/plain; version=0.0.4; charset=utf-8",
            bytes: metrics.render()))
      }
    default: respond(.notFound)
    }
  }

  /// Answers on the addresses of `--listen-metrics-urls`.
  func metricsPage(_ request: PageRequest, _ respond: @escaping (PageResponse) -> Void) {
    if ["/metrics", "/health", "/livez", "/readyz"].contains(request.path) {
      page(request, respond)
    } else {
      respond(.notFound)
    }
  }

  private func getOnly(
    _ request: PageRequest, _ respond: (PageResponse) -> Void, _ body: () -> Void
  ) {
    guard request.method == "GET" else {
      return respond(
        PageResponse(
          status: 405, contentType: "text/plain; charset=utf-8", body: "Method Not Allowed\n",
          headers: [HTTPField("Allow", "GET")]))
    }
    body()
  }

  /// What `/version` says here and on the peer port.
  var version: String {
    let cluster = storeStatus.membership.clusterVersion ?? "not_decided"
    return "{\"etcdserver\":\"\(ProductVersion.etcd)\",\"etcdcluster\":\"\(cluster)\","
      + "\"storage\":\"\(ProductVersion.etcdMinor)\"}"
  }

  // MARK: - Health

  /// Alarms, then the leader, then a read that needs a quorum.
  private func health(_ request: PageRequest, _ respond: @escaping (PageResponse) -> Void) {
    let excluded = request.values(of: "exclude")
    let alarm = storeStatus.alarms.first { !excluded.contains($0.kind.name) }
    let isSerializable = request.values(of: "serializable").first == "true"
    if let alarm {
      return respond(healthAnswer("ALARM \(alarm.kind.name)"))
    }
    if !isSerializable, softState.leader == 0 { return respond(healthAnswer("RAFT NO LEADER")) }
    probe(serializable: isSerializable) { error in
      respond(self.healthAnswer(error.map { "RANGE ERROR:\($0.message)" }))
    }
  }

  private func healthAnswer(_ reason: String?) -> PageResponse {
    guard let reason else {
      metrics.health.success.increment()
      return PageResponse(
        status: 200, contentType: "text/plain; charset=utf-8",
        body: "{\"health\":\"true\",\"reason\":\"\"}")
    }
    metrics.health.failures.increment()
    return PageResponse(
      status: 503, contentType: "text/plain; charset=utf-8",
      body: "{\"health\":\"false\",\"reason\":\(JSONText.string(reason))}\n",
      headers: [HTTPField("X-Content-Type-Options", "nosniff")])
  }

  private func probe(serializable: Bool, _ done: @escaping (EtcdError?) -> Void) {
    let request = Etcdserverpb_RangeRequest.with {
      $0.key = .init("health".utf8)
      $0.limit = 1
    }
    let waiter = Waiter.page { outcome in
      if case .failure(let error) = outcome { done(error) } else { done(nil) }
    }
    if serializable {
      readNow(.range(request), waiter)
    } else {
      readLinearizable(.range(request), waiter)
    }
  }

  /// `/livez` asks whether the process serves, `/readyz` whether it should be sent traffic.
  private func check(_ request: PageRequest, _ respond: @escaping (PageResponse) -> Void) {
    let isReady = request.path == "/readyz"
    let excluded = request.values(of: "exclude")
    probe(serializable: true) { local in
      guard isReady, !excluded.contains("linearizable_read") else {
        return respond(self.checks(request, local: local, quorum: nil))
      }
      self.probe(serializable: false) { quorum in
        respond(self.checks(request, local: local, quorum: quorum))
      }
    }
  }

  private func checks(
    _ request: PageRequest, local: EtcdError?, quorum: EtcdError?
  ) -> PageResponse {
    var results: [(name: String, failure: String?)] = [
      ("serializable_read", local.map { "range error: \($0.message)" })
    ]
    if request.path == "/readyz" {
      let isCorrupt = storeStatus.alarms.contains { $0.kind == .corrupt }
      results.insert(
        ("data_corruption", isCorrupt ? "alarm activated: CORRUPT" : nil), at: 0)
      results.append(("linearizable_read", quorum.map { "range error: \($0.message)" }))
      results.append(("non_learner", isLearner ? "not supported for learner" : nil))
    }
    let excluded = request.values(of: "exclude")
    results.removeAll { excluded.contains($0.name) }
    let failed = results.contains { $0.failure != nil }
    let lines = results.map { result in
      result.failure.map { "[-]\(result.name) failed: \($0)\n" } ?? "[+]\(result.name) ok\n"
    }.joined()
    let isVerbose = request.target.contains("verbose")
    if failed {
      return PageResponse(status: 503, contentType: "text/plain; charset=utf-8", body: lines + "\n")
    }
    return PageResponse(
      status: 200, contentType: "text/plain; charset=utf-8",
      body: (isVerbose ? lines : "") + "ok\n")
  }

  // MARK: - Metrics

  /// Gauges that are read off the member's state rather than counted.
  func updateMetrics() {
    refreshStatus()
    metrics.server.hasLeader.set(softState.leader != 0)
    metrics.server.isLeader.set(softState.leader == settings.member)
    metrics.server.isLearner.set(isLearner)
    metrics.server.proposalsCommitted.set(raftStatus.commit)
    metrics.server.proposalsApplied.set(storeStatus.applied)
    metrics.server.proposalsPending.set(waiters.writes)
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
