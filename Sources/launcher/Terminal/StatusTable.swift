// The state of a cluster, for people and for programs.

/// What a member is to the others, as far as it says.
enum MemberRole: String, Sendable {
  case leader, follower, learner
  /// It answers, but knows no leader.
  case leaderless = "no leader"
  case unknown = "-"
}

/// One member as `status` shows it.
struct MemberReport: Equatable, Sendable {
  let name: String
  /// Nil if no process runs.
  let pid: Int32?
  /// `running`, `paused`, `exited (1)`, ...
  let state: String
  let role: MemberRole
  let uptimeSeconds: Int?
  /// Starts since the launcher began, without the first.
  let restarts: Int
  let clientURL: String
  let peerURL: String
  let dataPath: String
}

/// The whole cluster as `status` shows it.
struct ClusterReport: Equatable, Sendable {
  let launcherPID: Int32
  let members: [MemberReport]

  /// The table that `start` prints.
  func startLines(_ palette: Palette) -> [String] {
    var table = TextTable(["NAME", "PID", "CLIENT URL", "PEER URL", "ROLE", "DATA"])
    for (index, member) in members.enumerated() {
      table.append([
        .init(member.name, member: index),
        .init(member.pid.map { String($0) } ?? "-"),
        .init(member.clientURL), .init(member.peerURL),
        member.pid == nil ? .init(member.state, .boldRed) : Self.cell(member.role),
        .init(member.dataPath),
      ])
    }
    return table.lines(palette)
  }

  /// The table that `status` prints.
  func statusLines(_ palette: Palette) -> [String] {
    var table = TextTable([
      "NAME", "STATE", "ROLE", "PID", "UPTIME", "RESTARTS", "CLIENT URL", "PEER URL",
    ])
    for (index, member) in members.enumerated() {
      table.append([
        .init(member.name, member: index),
        .init(member.state, Self.style(ofState: member.state)),
        Self.cell(member.role),
        .init(member.pid.map { String($0) } ?? "-"),
        .init(member.uptimeSeconds.map { Clock.uptime(seconds: $0) } ?? "-"),
        .init(String(member.restarts)),
        .init(member.clientURL), .init(member.peerURL),
      ])
    }
    return table.lines(palette)
  }

  private static func cell(_ role: MemberRole) -> TextTable.Cell {
    switch role {
    case .leader: .init(role.rawValue, .bold)
    case .leaderless: .init(role.rawValue, .boldYellow)
    default: .init(role.rawValue)
    }
  }

  private static func style(ofState state: String) -> Palette.Style? {
    switch state {
    case "running": .green
    case "stopped": .dim
    case "paused", "starting", "stopping": .yellow
    default: .red
    }
  }

  // MARK: JSON

  var json: JSONValue {
    let list = members.map { member in
      JSONValue.object([
        .init("name", .string(member.name)),
        .init("state", .string(member.state)),
        .init("role", .string(member.role == .unknown ? "unknown" : member.role.rawValue)),
        .init("pid", member.pid.map { .int($0) } ?? .null),
        .init("uptime-seconds", member.uptimeSeconds.map { .int($0) } ?? .null),
        .init("restarts", .int(member.restarts)),
        .init("client-url", .string(member.clientURL)),
        .init("peer-url", .string(member.peerURL)),
        .init("data-dir", .string(member.dataPath)),
      ])
    }
    return .object([.init("launcher-pid", .int(launcherPID)), .init("members", .array(list))])
  }

  init(launcherPID: Int32, members: [MemberReport]) {
    self.launcherPID = launcherPID
    self.members = members
  }

  init?(json: JSONValue) {
    guard let launcher = json["launcher-pid"]?.integer(as: Int32.self),
      let list = json["members"]?.elements
    else { return nil }
    launcherPID = launcher
    members = list.compactMap { element in
      guard let name = element["name"]?.text, let state = element["state"]?.text else {
        return nil
      }
      return MemberReport(
        name: name, pid: element["pid"]?.integer(), state: state,
        role: element["role"]?.text.flatMap(MemberRole.init) ?? .unknown,
        uptimeSeconds: element["uptime-seconds"]?.integer(),
        restarts: element["restarts"]?.integer() ?? 0,
        clientURL: element["client-url"]?.text ?? "", peerURL: element["peer-url"]?.text ?? "",
        dataPath: element["data-dir"]?.text ?? "")
    }
  }
}
