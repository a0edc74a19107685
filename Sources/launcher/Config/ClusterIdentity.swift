// Which cluster a data folder belongs to.

/// The part of a cluster.conf that the members' data was made from, kept beside that data.
struct ClusterIdentity: Equatable, Sendable {
  struct Member: Equatable, Sendable {
    let name: String
    let peerURL: String
  }

  let token: String
  let members: [Member]

  init(token: String, members: [Member]) {
    self.token = token
    self.members = members
  }

  init(of cluster: ClusterFile) {
    token = cluster.token
    members = cluster.members.map { Member(name: $0.name, peerURL: $0.peerURL.text) }
  }

  init?(parsing text: String) {
    guard let json = JSONValue(parsing: text), let token = json["token"]?.text,
      let list = json["members"]?.elements
    else { return nil }
    var members: [Member] = []
    for element in list {
      guard let name = element["name"]?.text, let url = element["peer-url"]?.text else {
        return nil
      }
      members.append(Member(name: name, peerURL: url))
    }
    self.init(token: token, members: members)
  }

  var text: String {
    let list = members.map { member in
      JSONValue.object([
        .init("name", .string(member.name)), .init("peer-url", .string(member.peerURL)),
      ])
    }
    return JSONValue.object([.init("token", .string(token)), .init("members", .array(list))])
      .prettyText() + "\n"
  }

  /// How a file differs from the cluster that its data folder was made for; empty if it does not.
  func differences(from cluster: ClusterFile) -> [ConfigProblem] {
    var problems: [ConfigProblem] = []
    if token != cluster.token {
      let flag = cluster.members.first?.flags.first { $0.name == "initial-cluster-token" }
      problems.append(
        ConfigProblem(
          flag?.line ?? 0, "initial-cluster-token was \"\(token)\", now it is \"\(cluster.token)\"",
          instead: "initial-cluster-token: \(token)"))
    }
    for plan in cluster.members {
      guard let before = members.first(where: { $0.name == plan.name }) else {
        problems.append(
          ConfigProblem(plan.line, "member \(plan.name) was not part of the cluster"))
        continue
      }
      if before.peerURL != plan.peerURL.text {
        problems.append(
          ConfigProblem(
            plan.peerURLLine,
            "peer-url of \(plan.name) was \(before.peerURL), now it is \(plan.peerURL.text)",
            instead: "peer-url: \(before.peerURL)"))
      }
    }
    for before in members where !cluster.members.contains(where: { $0.name == before.name }) {
      problems.append(
        ConfigProblem(
          0,
          "member \(before.name) (\(before.peerURL)) is missing, though it is part of the cluster"
        ))
    }
    return problems
  }
}
