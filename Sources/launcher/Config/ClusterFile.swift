// What a cluster.conf says, as values.

/// When a member that ended on its own is started again.
enum RestartPolicy: String, CaseIterable, Sendable {
  case never
  /// After a signal or an exit code other than 0.
  case onFailure = "on-failure"
  case always
}

/// A flag of the member program, without its dashes.
struct MemberFlag: Equatable, Sendable {
  let name: String
  let value: String
  /// Where it stands in the file.
  let line: Int
}

/// One member of the cluster.
struct MemberPlan: Equatable, Sendable {
  let name: String
  let line: Int
  let clientURL: MemberURL
  let clientURLLine: Int
  let peerURL: MemberURL
  let peerURLLine: Int
  /// The defaults overlaid by the member's own flags, each name once, in the file's order.
  let flags: [MemberFlag]
}

/// A checked cluster.conf.
struct ClusterFile: Equatable, Sendable {
  /// The path as the user gave it, for messages.
  let path: String
  /// As seen from the working directory of this process.
  let dataDirectory: String
  let dataDirectoryLine: Int
  let restart: RestartPolicy
  let members: [MemberPlan]

  /// The token that keeps clusters apart; etcd's default if the file names none.
  var token: String {
    members.first?.flags.first { $0.name == "initial-cluster-token" }?.value ?? "etcd-cluster"
  }

  var initialCluster: String {
    members.map { "\($0.name)=\($0.peerURL.text)" }.joined(separator: ",")
  }

  func dataPath(of member: MemberPlan) -> String { Files.join(dataDirectory, member.name) }
  func logPath(of member: MemberPlan) -> String { dataPath(of: member) + ".log" }
  var socketPath: String { Files.join(dataDirectory, "launcher.sock") }
  var lockPath: String { Files.join(dataDirectory, "launcher.lock") }
  var processesPath: String { Files.join(dataDirectory, "launcher.json") }
  var identityPath: String { Files.join(dataDirectory, "cluster.json") }
}

/// Something wrong with a cluster.conf.
struct ConfigProblem: Equatable, Sendable {
  enum Severity: Sendable { case mistake, warning }

  let severity: Severity
  /// 0 if it concerns the whole file.
  let line: Int
  let text: String
  /// What to write in its place.
  let instead: String?

  init(_ line: Int, _ text: String, instead: String? = nil, severity: Severity = .mistake) {
    self.severity = severity
    self.line = line
    self.text = text
    self.instead = instead
  }

  /// `cluster.conf:3: what is wrong; write instead: ...`
  func description(path: String) -> String {
    let place = line > 0 ? "\(path):\(line)" : path
    let kind = severity == .warning ? "warning: " : ""
    return "\(place): \(kind)\(text)" + (instead.map { "; write instead: \($0)" } ?? "")
  }
}
