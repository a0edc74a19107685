// What the launcher asks the cluster that it runs: changes of its members.

import Actors
import EtcdAPI
import EtcdClient
import SwiftProtobuf
import TLS

/// Calls of a running cluster's membership, with the patience that they need.
struct ClusterClient: Sendable {
  private let client: EtcdClient

  /// - Parameters:
  ///   - plans: the members that run.
  ///   - user: for clusters with authentication; nil = nobody.
  /// - Throws: ``ControlError`` if there is nobody to ask.
  init(
    _ plans: [MemberPlan], in cluster: ClusterFile, user: ClusterUser?
  ) throws(ControlError) {
    do throws(EtcdClientError) {
      var endpoints: [Endpoint] = []
      for plan in plans { endpoints.append(try Endpoint(plan.clientURL.text)) }
      var options = EtcdClientOptions()
      if let secure = plans.first(where: { $0.clientURL.scheme == .https }) {
        var settings = ProbeTarget.clientSettings(secure, in: cluster)
        settings.protocols = ["h2"]
        options.tls = TLSContextSource(.client, settings)
      }
      options.identity = user.map { .password(user: $0.name, password: $0.password) }
      client = try EtcdClient(endpoints: endpoints, options: options)
    } catch {
      throw ControlError("no member can be asked: \(error.message)")
    }
  }

  func close() { client.close() }

  /// Tells early whether the password is right. Without a user, and where nobody is asked for one,
  /// nothing happens.
  func logIn() async throws(ControlError) {
    do throws(EtcdClientError) {
      try await client.logIn(timeout: Self.loginTimeout)
    } catch {
      throw ControlError("the login was refused: \(error.message)")
    }
  }

  private static let loginTimeout = Duration.seconds(5)

  func members() async throws(ControlError) -> [Etcdserverpb_Member] {
    try await trying("member list") { () async throws(EtcdClientError) in
      try await client.memberList().members
    }
  }

  /// - Returns: the new member's id, and all members with it.
  func add(
    _ plan: MemberPlan, isLearner: Bool
  ) async throws(ControlError) -> (id: UInt64, members: [Etcdserverpb_Member]) {
    let request = Etcdserverpb_MemberAddRequest.with {
      $0.peerUrls = [plan.peerURL.text]
      $0.isLearner = isLearner
    }
    let response = try await trying("member add") { () async throws(EtcdClientError) in
      try await client.memberAdd(request)
    }
    return (response.member.id, response.members)
  }

  func remove(_ id: UInt64) async throws(ControlError) {
    let request = Etcdserverpb_MemberRemoveRequest.with { $0.id = id }
    _ = try await trying("member remove") { () async throws(EtcdClientError) in
      try await client.memberRemove(request)
    }
  }

  /// Waits until the learner has caught up.
  func promote(_ id: UInt64) async throws(ControlError) {
    let request = Etcdserverpb_MemberPromoteRequest.with { $0.id = id }
    _ = try await trying("member promote") { () async throws(EtcdClientError) in
      try await client.memberPromote(request)
    }
  }

  private static let triesMax = 60
  private static let pauseMilliseconds: UInt64 = 500

  /// A cluster refuses changes until its members have been connected for five seconds, and promotions
  /// until the learner has what the leader has: both are worth waiting for.
  private func trying<Value>(
    _ what: String, _ body: () async throws(EtcdClientError) -> Value
  ) async throws(ControlError) -> Value {
    var tries = 0
    while true {
      do throws(EtcdClientError) {
        return try await body()
      } catch {
        tries += 1
        guard tries < Self.triesMax, Self.passes(error.message) else {
          throw ControlError("\(what) was refused: \(error.message)\(Self.advice(error.message))")
        }
      }
      try? await Task.sleep(nanoseconds: Self.pauseMilliseconds * 1_000_000)
    }
  }

  private static func advice(_ text: String) -> String {
    switch text {
    case "etcdserver: user name is empty":
      "; the cluster asks who you are: give a user with the role root, with --user NAME:PASSWORD "
        + "or ETCDCTL_USER"
    case "etcdserver: permission denied": "; this takes a user with the role root"
    default: ""
    }
  }

  private static func passes(_ text: String) -> Bool {
    ["unhealthy cluster", "not enough started members", "in sync with leader"].contains {
      text.contains($0)
    }
  }
}
