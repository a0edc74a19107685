// Rows of cells, and their box.

import EtcdAPI

/// A header and rows of as many cells.
struct Table: Sendable, Equatable {
  var header: [String]
  var rows: [[String]]

  /// The header centred in capitals, the cells right-aligned, drawn with box characters.
  var drawn: [UInt8] {
    let titles = header.map(Self.title)
    let cells = rows.map { $0.map(Self.trimmed) }
    let widths = titles.indices.map { column in
      ([titles[column]] + cells.map { $0[column] }).map(\.count).max() ?? 0
    }
    func rule(_ left: String, _ middle: String, _ right: String) -> String {
      left + widths.map { String(repeating: "─", count: $0 + 2) }.joined(separator: middle) + right
    }
    func line(_ texts: [String]) -> String {
      "│" + texts.map { " \($0) " }.joined(separator: "│") + "│"
    }
    var text = TextBuffer()
    text.line(rule("┌", "┬", "┐"))
    text.line(line(zip(titles, widths).map { Self.centre($0, $1) }))
    text.line(rule("├", "┼", "┤"))
    for row in cells {
      text.line(line(zip(row, widths).map { Self.blanks($1 - $0.count) + $0 }))
    }
    text.line(rule("└", "┴", "┘"))
    return text.bytes
  }

  private static func title(_ text: String) -> String {
    String(text.uppercased().map { $0 == "_" ? " " : $0 })
  }

  private static func trimmed(_ text: String) -> String {
    var text = text
    while text.last == " " { text.removeLast() }
    return text
  }

  private static func blanks(_ count: Int) -> String { String(repeating: " ", count: count) }

  private static func centre(_ text: String, _ width: Int) -> String {
    let left = (width - text.count) / 2
    return blanks(left) + text + blanks(width - text.count - left)
  }
}

extension Table {
  static func members(_ members: [Etcdserverpb_Member]) -> Table {
    Table(
      header: ["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"],
      rows: members.map {
        [
          Shown.hex($0.id), $0.name.isEmpty ? "unstarted" : "started", $0.name,
          $0.peerUrls.joined(separator: ","), $0.clientUrls.joined(separator: ","),
          "\($0.isLearner)",
        ]
      })
  }

  static func health(_ rows: [EndpointHealth]) -> Table {
    Table(
      header: ["endpoint", "health", "took", "error"],
      rows: rows.map { [$0.endpoint, "\($0.isHealthy)", $0.took, $0.error] })
  }

  static func status(_ rows: [EndpointStatus]) -> Table {
    Table(
      header: [
        "endpoint", "ID", "version", "storage version", "db size", "in use",
        "percentage not in use", "quota", "is leader", "is learner", "raft term", "raft index",
        "raft applied index", "errors", "downgrade target version", "downgrade enabled",
      ],
      rows: rows.map { statusRow($0.endpoint, $0.response) })
  }

  private static func statusRow(
    _ endpoint: String, _ response: Etcdserverpb_StatusResponse
  ) -> [String] {
    let unused = Shown.unusedPercent(inUse: response.dbSizeInUse, size: response.dbSize)
    return [
      endpoint, Shown.hex(response.header.memberID), response.version, response.storageVersion,
      Shown.size(response.dbSize), Shown.size(response.dbSizeInUse), "\(unused)%",
      Shown.size(response.dbSizeQuota), "\(response.leader == response.header.memberID)",
      "\(response.isLearner)", "\(response.raftTerm)", "\(response.raftIndex)",
      "\(response.raftAppliedIndex)", response.errors.joined(separator: ", "),
      response.downgradeInfo.targetVersion, "\(response.downgradeInfo.enabled)",
    ]
  }

  static func hashKV(_ rows: [EndpointHash]) -> Table {
    Table(
      header: ["endpoint", "hash", "hash revision"],
      rows: rows.map { [$0.endpoint, "\($0.response.hash)", "\($0.response.hashRevision)"] })
  }
}
