import Base
import EtcdAPI
import FoundationEssentials
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

/// Something `/livez` or `/readyz` looks at, by the name that etcd gives it.
enum HealthCheck: String, CaseIterable {
  case dataCorruption = "data_corruption"
  case serializableRead = "serializable_read"
  case linearizableRead = "linearizable_read"
  case nonLearner = "non_learner"

  /// What asks whether the process serves at all.
  static let live: [HealthCheck] = [.serializableRead]
  /// What asks whether it should be sent traffic.
  static let ready: [HealthCheck] = [
    .dataCorruption, .serializableRead, .linearizableRead, .nonLearner,
  ]
}

extension ClientGateway {
  // MARK: - /health

  /// Alarms, then the leader, then a read that needs a quorum.
  func health(_ exchange: HTTPExchange) {
    let excluded = exchange.queryValues(of: "exclude")
    let isSerializable = exchange.queryValues(of: "serializable").first == "true"
    if let alarm = storeStatus.alarms.first(where: { !excluded.contains($0.kind.name) }) {
      return exchange.respond(healthAnswer("ALARM \(alarm.kind.name)"))
    }
    if !isSerializable, softState.leader == 0 {
      return exchange.respond(healthAnswer("RAFT NO LEADER"))
    }
    readOnce(serializable: isSerializable) { error in
      exchange.respond(self.healthAnswer(error.map { "RANGE ERROR:\($0.message)" }))
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
    log.warn("serving /health false", ("reason", reason))
    return PageResponse(
      error: 503, "{\"health\":\"false\",\"reason\":\(JSONText.string(reason))}")
  }

  private func readOnce(serializable: Bool, _ done: @escaping (EtcdError?) -> Void) {
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

  // MARK: - /livez, /readyz

  /// Whether the path is one of the probes or of their single checks.
  func isProbe(_ path: String) -> Bool { Self.checks(of: path) != nil }

  /// The checks behind a path: all of a probe, or the one that follows its name.
  private static func checks(of path: String) -> [HealthCheck]? {
    for (root, checks) in [("/livez", HealthCheck.live), ("/readyz", HealthCheck.ready)] {
      if path == root { return checks }
      if path.hasPrefix(root + "/") {
        let name = path.dropFirst(root.count + 1)
        return checks.first { $0.rawValue == name }.map { [$0] }
      }
    }
    return nil
  }

  func probe(_ exchange: HTTPExchange, _ path: String) {
    var checks = Self.checks(of: path) ?? []
    // Leaving checks out is for the whole of a probe, not for one of them.
    if path == "/livez" || path == "/readyz" {
      let excluded = exchange.queryValues(of: "exclude")
      let unknown = excluded.filter { name in !checks.contains { $0.rawValue == name } }
      if !unknown.isEmpty {
        log.warn(
          "some health checks cannot be excluded", ("missing-health-checks", unknown))
      }
      checks.removeAll { excluded.contains($0.rawValue) }
    }
    let kind = path.hasPrefix("/readyz") ? "readyz" : "livez"
    run(checks, after: []) { results in
      for (check, failure) in results {
        self.metrics.health.record(type: kind, name: check.rawValue, success: failure == nil)
      }
      exchange.respond(
        Self.probeAnswer(results, isVerbose: exchange.hasQuery("verbose")))
    }
  }

  private typealias CheckResult = (check: HealthCheck, failure: String?)

  /// Runs one check after the other.
  private func run(
    _ checks: [HealthCheck], after results: [CheckResult],
    _ done: @escaping ([CheckResult]) -> Void
  ) {
    guard let check = checks.first else { return done(results) }
    run(check) { failure in
      self.run(Array(checks.dropFirst()), after: results + [(check, failure)], done)
    }
  }

  private func run(_ check: HealthCheck, _ done: @escaping (String?) -> Void) {
    switch check {
    case .dataCorruption:
      let isCorrupt = storeStatus.alarms.contains { $0.kind == .corrupt }
      done(isCorrupt ? "alarm activated: CORRUPT" : nil)
    case .serializableRead, .linearizableRead:
      readOnce(serializable: check == .serializableRead) { error in
        done(error.map { "range error: \($0.message)" })
      }
    case .nonLearner: done(isLearner ? "not supported for learner" : nil)
    }
  }

  private static func probeAnswer(_ results: [CheckResult], isVerbose: Bool) -> PageResponse {
    let lines = results.map { check, failure in
      failure.map { "[-]\(check.rawValue) failed: \($0)\n" } ?? "[+]\(check.rawValue) ok\n"
    }.joined()
    guard results.allSatisfy({ $0.failure == nil }) else { return PageResponse(error: 503, lines) }
    return PageResponse(
      status: 200, contentType: "text/plain; charset=utf-8",
      body: (isVerbose ? lines : "") + "ok\n",
      headers: [HTTPField("X-Content-Type-Options", "nosniff")])
  }
}
