// Members that come and go while the cluster runs.

import Actors
import EtcdAPI
import EtcdClient
import Glibc
import SwiftProtobuf

extension Supervisor {
  private static let joinMilliseconds = 60_000
  private static let leaveMilliseconds = 10_000

  // MARK: Add

  /// Makes a member part of the cluster: announces it as a learner, starts it, and promotes it once it
  /// has caught up, so that a member that cannot start costs the cluster nothing.
  func addOnRequest(_ request: ControlRequest, _ session: ControlSession) async throws(ControlError)
  {
    guard let name = request.members.first, request.members.count == 1 else {
      throw ControlError("name the one member to add")
    }
    guard !present.contains(where: { members[$0].plan.name == name }) else {
      throw ControlError(
        "\(name) is a member already; to start it anew with an empty data folder: "
          + "launcher replace \(name)")
    }
    let (file, text) = try fileWith(name, request)
    guard let plan = file.members.first(where: { $0.name == name }) else {
      throw ControlError("\(cluster.path) does not name \(name)")
    }
    let problems = Preflight.checkPorts(file, of: plan)
    if let problem = problems.first { throw ControlError(problem) }
    try await join(plan, in: file, request, session) { () throws(ControlError) in
      if let text {
        do throws(SystemError) {
          try Files.replace(cluster.path, with: text, keepsMode: true)
        } catch {
          throw ControlError("\(error)")
        }
      }
    }
  }

  /// The file with the new member: as the user has written it, or with what the request says added.
  private func fileWith(
    _ name: String, _ request: ControlRequest
  ) throws(ControlError) -> (ClusterFile, text: String?) {
    let text = try readFile()
    let present = try parse(text)
    if present.members.contains(where: { $0.name == name }) { return (present, nil) }
    let free = FreeAddresses(beside: present)
    let edited = try ClusterFileEditor.adding(
      name, clientURL: request.clientURL ?? free.client.text,
      peerURL: request.peerURL ?? free.peer.text, to: text)
    return (try parse(edited), edited)
  }

  private func readFile() throws(ControlError) -> String {
    do throws(SystemError) { return try Files.read(cluster.path, bytesMax: 1 << 20) } catch {
      throw ControlError("\(error)")
    }
  }

  private func parse(_ text: String) throws(ControlError) -> ClusterFile {
    let outcome = ClusterFileParser.parse(text, path: cluster.path)
    guard let file = outcome.file else {
      throw ControlError(
        outcome.mistakes.first?.description(path: cluster.path) ?? "\(cluster.path) is unusable")
    }
    return file
  }

  /// Announces, starts and promotes a member.
  private func join(
    _ plan: MemberPlan, in file: ClusterFile, _ request: ControlRequest, _ session: ControlSession,
    announced: () throws(ControlError) -> Void
  ) async throws(ControlError) {
    let client = try clusterClient(request.user)
    defer { client.close() }
    try await client.logIn()
    let (id, listed) = try await client.add(plan, isLearner: true)
    try announced()
    say("is announced to the cluster as \(hex(id))", plan.name, session)
    let index = try admit(plan, in: file, joining: initialCluster(listed, plan))
    spawn(index)
    let run = members[index].starts
    let serves = await wait(atMostMilliseconds: Self.joinMilliseconds) {
      $0.members[index].phase != .starting || $0.members[index].starts != run || $0.endIsRequested
    }
    guard serves, members[index].phase == .running else {
      throw ControlError(
        "\(plan.name) does not serve; see: launcher logs \(plan.name). It is a learner as long as "
          + "it has not caught up and takes no part in decisions; to give it up: "
          + "launcher remove \(plan.name)")
    }
    guard !request.isLearner else {
      return say("serves clients as a learner", plan.name, session)
    }
    try await client.promote(id)
    say("serves clients, has caught up, and votes", plan.name, session)
  }

  /// Makes room for a member among those that the launcher runs.
  private func admit(
    _ plan: MemberPlan, in file: ClusterFile, joining: String
  ) throws(ControlError) -> Int {
    do throws(SystemError) {
      members.append(try ManagedMember(plan, of: file, joining: joining))
    } catch {
      throw ControlError("\(error)")
    }
    cluster = file
    rememberMembers()
    formatter = LogFormatter(
      names: members.indices.map { members[$0].plan.name }, style: options.logStyle,
      palette: console.palette)
    return members.count - 1
  }

  /// What a later launcher compares the file with.
  private func rememberMembers() {
    let identity = ClusterIdentity(
      token: cluster.token,
      members: present.map {
        .init(name: members[$0].plan.name, peerURL: members[$0].plan.peerURL.text)
      })
    try? Files.replace(cluster.identityPath, with: identity.text)
  }

  /// Members that have not started yet have no name but in the file.
  private func initialCluster(_ listed: [Etcdserverpb_Member], _ plan: MemberPlan) -> String {
    listed.flatMap { member in
      let name = member.peerUrls.contains(plan.peerURL.text) ? plan.name : member.name
      return member.peerUrls.map { "\(name)=\($0)" }
    }.joined(separator: ",")
  }

  // MARK: Remove

  /// Takes a member out of the cluster, ends it, and puts its data aside.
  func removeOnRequest(
    _ index: Int, _ request: ControlRequest, _ session: ControlSession
  ) async throws(ControlError) {
    guard present.count > 1 else {
      throw ControlError("\(memberName(index)) is the only member; to end it: launcher stop")
    }
    try await leave(index, request, session)
    members[index].phase = .stopped
    departed.insert(index)
    rememberMembers()
    let edited: String
    do throws(ControlError) {
      edited = try ClusterFileEditor.removing(memberName(index), from: try readFile())
      cluster = try parse(edited)
    } catch {
      return say("is removed; \(error.description)", memberName(index), session)
    }
    do throws(SystemError) {
      try Files.replace(cluster.path, with: edited, keepsMode: true)
    } catch {
      throw ControlError("\(error)")
    }
    say("is removed, also from \(cluster.path)", memberName(index), session)
  }

  /// Gives a member that has lost its data, or shall lose it, a new life under its name and addresses.
  func replaceOnRequest(
    _ index: Int, _ request: ControlRequest, _ session: ControlSession
  ) async throws(ControlError) {
    guard present.count > 1 else {
      throw ControlError(
        "\(memberName(index)) is the only member: its data is the cluster's, and nobody else has it"
      )
    }
    let plan = members[index].plan
    try await leave(index, request, session)
    departed.insert(index)
    try await join(plan, in: cluster, request, session) {}
  }

  /// Removal from the cluster, the end of the process, and the data out of the way.
  private func leave(
    _ index: Int, _ request: ControlRequest, _ session: ControlSession
  ) async throws(ControlError) {
    let plan = members[index].plan
    let client = try clusterClient(request.user, without: index)
    defer { client.close() }
    try await client.logIn()
    let listed = try await client.members()
    members[index].restartTimer?.cancel()
    members[index].restartTimer = nil
    if let known = listed.first(where: {
      $0.name == plan.name || $0.peerUrls.contains(plan.peerURL.text)
    }) {
      // It ends by itself when it hears of it; that is no reason to start it again.
      let phase = members[index].phase
      if phase.isAlive { members[index].phase = .stopping }
      do throws(ControlError) {
        try await client.remove(known.id)
      } catch {
        if members[index].phase == .stopping { members[index].phase = phase }
        throw error
      }
      say("is no member of the cluster any more (\(hex(known.id)))", plan.name, session)
    }
    if members[index].phase.isAlive {
      await wait(atMostMilliseconds: Self.leaveMilliseconds) { !$0.members[index].phase.isAlive }
      if members[index].phase.isAlive { session.send(.note(await stop(index))) }
    }
    let path = members[index].dataPath
    guard Files.exists(path) else { return }
    let aside: String
    do throws(SystemError) { aside = try Files.putAside(path, as: path + ".removed") } catch {
      throw ControlError("\(error); remove \(members[index].dataPath) by hand")
    }
    say("has left its data in \(aside), which can be removed", plan.name, session)
  }

  private func clusterClient(
    _ user: ClusterUser?, without excluded: Int? = nil
  ) throws(ControlError) -> ClusterClient {
    let running = present.filter { $0 != excluded && members[$0].phase == .running }
    guard !running.isEmpty else {
      throw ControlError("no other member serves that the cluster could be asked through")
    }
    return try ClusterClient(running.map { members[$0].plan }, in: cluster, user: user)
  }

  private func say(_ text: String, _ name: String, _ session: ControlSession) {
    console.print("\(name) \(text)")
    session.send(.note("\(name) \(text)"))
  }

  private func memberName(_ index: Int) -> String { members[index].plan.name }

  private func hex(_ id: UInt64) -> String { String(id, radix: 16) }
}

/// Addresses for one more member: the next ports in the manner of the others.
struct FreeAddresses {
  private static let step: UInt16 = 10_000
  let client: MemberURL
  let peer: MemberURL

  init(beside file: ClusterFile) {
    let taken = Set(file.members.flatMap { [$0.clientURL.port, $0.peerURL.port] })
    let last = file.members.last
    func next(_ url: MemberURL?, _ fallback: UInt16, _ taken: Set<UInt16>) -> MemberURL {
      let before = url?.port ?? fallback
      var port = before < UInt16.max - Self.step ? before + Self.step : before - Self.step
      while taken.contains(port) { port = port < UInt16.max ? port + 1 : 1024 }
      return MemberURL(scheme: url?.scheme ?? .http, host: url?.host ?? "127.0.0.1", port: port)
    }
    client = next(last?.clientURL, 2379, taken)
    peer = next(last?.peerURL, 2380, taken.union([client.port]))
  }
}
