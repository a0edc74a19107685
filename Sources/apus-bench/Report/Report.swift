// What a run has shown, for people and for programs.

import Glibc

/// One line of figures.
struct ReportRow {
  let name: String
  let latencies: Latencies
  let perSecond: Double

  static let percentiles: [(String, Double)] = [
    ("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9), ("p99.99", 99.99),
  ]

  var json: JSONValue {
    let times = Self.percentiles.map { name, value in
      (name, JSONValue.number(Double(latencies.percentile(value)) / 1000))
    }
    return .object(
      [
        ("count", .integer(latencies.count)), ("per_second", .number(perSecond)),
        ("mean", .number(latencies.mean / 1000)), ("stddev", .number(latencies.deviation / 1000)),
        ("min", .number(Double(latencies.least) / 1000)),
      ] + times + [("max", .number(Double(latencies.most) / 1000))])
  }
}

/// A whole report; times in JSON are microseconds.
struct Report {
  var command: String
  var rows: [ReportRow] = []
  var facts: [(String, JSONValue)] = []
  var errors: [String: Int] = [:]
  var unanswered = 0

  init(command: String) { self.command = command }

  init(command: String, _ result: LoadResult, generatorCPU: Double) {
    self.command = command
    let seconds = Double(result.elapsedNanoseconds) / 1e9
    var all = Latencies()
    for method in Method.allCases {
      guard let times = result.latencies[method] else { continue }
      all.add(times)
      let rate = Double(result.inTime[method] ?? 0) / max(seconds, 1e-9)
      rows.append(ReportRow(name: method.label, latencies: times, perSecond: rate))
    }
    if rows.count > 1 {
      let rate = rows.reduce(0) { $0 + $1.perSecond }
      rows.append(ReportRow(name: "all", latencies: all, perSecond: rate))
    }
    errors = result.errors
    unanswered = result.unanswered
    let calls = Double(max(result.ended, 1))
    facts = [
      ("seconds", .number(seconds)),
      ("generator_cpu_us_per_call", .number(generatorCPU * 1e6 / calls)),
      ("received_bytes_per_call", .number(Double(result.receivedBytes) / calls)),
    ]
  }

  var hasFailures: Bool { !errors.isEmpty || unanswered > 0 }

  var json: String {
    var members: [(String, JSONValue)] = [("command", .text(command))]
    members += facts
    members.append(("time_unit", .text("us")))
    members.append(("results", .object(rows.map { ($0.name, $0.json) })))
    members.append(
      (
        "errors",
        .object(errors.sorted { $0.key < $1.key }.map { ($0.key, JSONValue.integer($0.value)) })
      ))
    members.append(("unanswered", .integer(unanswered)))
    return JSONValue.object(members).description
  }

  var table: String {
    let heads = ["", "count", "per second", "mean"] + ReportRow.percentiles.map(\.0) + ["max"]
    var lines = [heads]
    for row in rows {
      let times =
        [row.latencies.mean] + ReportRow.percentiles.map { Double(row.latencies.percentile($0.1)) }
        + [Double(row.latencies.most)]
      lines.append(
        [row.name, "\(row.latencies.count)", Self.grouped(row.perSecond)] + times.map(Self.time))
    }
    var text = rows.isEmpty ? "" : Self.columns(lines)
    for (name, value) in facts { text += "\(name.replacing("_", with: " ")): \(value)\n" }
    for (error, count) in errors.sorted(by: { $0.key < $1.key }) {
      text += "error, \(count) times: \(error)\n"
    }
    if unanswered > 0 { text += "unanswered, and not part of the times: \(unanswered)\n" }
    return text
  }

  private static func columns(_ lines: [[String]]) -> String {
    let widths = lines[0].indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
    return lines.map { line in
      line.enumerated().map { column, cell in
        let pad = String(repeating: " ", count: widths[column] - cell.count)
        return column == 0 ? cell + pad : pad + cell
      }.joined(separator: "  ") + "\n"
    }.joined()
  }

  /// 1234567.8 as 1,234,568.
  static func grouped(_ value: Double) -> String {
    var digits = String(Int(value.rounded()))
    var parts: [String] = []
    while digits.count > 3 {
      parts.insert(String(digits.suffix(3)), at: 0)
      digits = String(digits.dropLast(3))
    }
    return ([digits] + parts).joined(separator: ",")
  }

  /// Nanoseconds with three or four digits and a unit.
  static func time(_ nanoseconds: Double) -> String {
    switch nanoseconds {
    case ..<1e3: "\(Int(nanoseconds)) ns"
    case ..<1e6: "\(rounded(nanoseconds / 1e3)) us"
    case ..<1e9: "\(rounded(nanoseconds / 1e6)) ms"
    default: "\(rounded(nanoseconds / 1e9)) s"
    }
  }

  private static func rounded(_ value: Double) -> String {
    "\((value * 10).rounded() / 10)"
  }
}

/// CPU time of this process so far, in seconds.
func processorSeconds() -> Double {
  var usage = rusage()
  getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
  func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
  return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
