// launcher logs

import ArgumentParser
import Glibc

struct LogsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logs",
    abstract: "Show stored log lines of members.",
    discussion: """
      Reads <data-dir>/<name>.log, so it works when nothing runs, too. The lines of several \
      members are put in the order of their times.

      Examples:

        launcher logs                  # the last lines of all members
        launcher logs -n 200 m1
        launcher logs -f m1 m2         # and what comes; Ctrl-C ends it
        launcher logs --log raw m1     # the lines as they were written
      """)

  @Argument(help: "Names of members; all if there are none.")
  var members: [String] = []

  @Flag(name: .shortAndLong, help: "Go on with new lines as they come.")
  var follow = false

  @Option(
    name: [.customShort("n"), .long],
    help: ArgumentHelp("Lines of each member to begin with.", valueName: "count"))
  var lines = 50

  @Option(name: .long, help: ArgumentHelp("pretty or raw.", valueName: "style"))
  var log = LogStyle.pretty

  @OptionGroup var cluster: ClusterOption

  func validate() throws {
    if lines < 0 { throw ValidationError("-n must not be negative.") }
    if log == .quiet { throw ValidationError("--log is pretty or raw here.") }
  }

  func run() throws {
    let file = try cluster.load()
    let chosen = try select(file)
    let formatter = LogFormatter(
      names: file.members.map(\.name), style: log, palette: Palette(descriptor: STDOUT_FILENO))
    var tails = chosen.map { LogTail(member: $0, path: file.logPath(of: file.members[$0])) }
    if !follow, !tails.contains(where: { Files.exists($0.path) }) {
      throw failure("there is no log yet: \(tails.map(\.path).joined(separator: ", "))")
    }
    var first: [LogTail.Line] = []
    for index in tails.indices { first += tails[index].lastLines(lines) }
    show(first, formatter)
    while follow {
      usleep(100_000)
      var fresh: [LogTail.Line] = []
      for index in tails.indices { fresh += tails[index].newLines() }
      show(fresh, formatter)
    }
  }

  private func select(_ file: ClusterFile) throws -> [Int] {
    if members.isEmpty { return Array(file.members.indices) }
    return try members.map { name in
      guard let index = file.members.firstIndex(where: { $0.name == name }) else {
        let names = file.members.map(\.name).joined(separator: ", ")
        throw failure("no member is named \"\(name)\"; the members are \(names)")
      }
      return index
    }
  }

  private func show(_ lines: [LogTail.Line], _ formatter: LogFormatter) {
    if lines.isEmpty { return }
    let texts = LogTail.inOrder(lines).compactMap { line in
      formatter.line(line.text, of: line.member, receivedAt: "            ")
    }
    let isWritten = Files.writeAll(STDOUT_FILENO, texts.map { $0 + "\n" }.joined())
    // A reader such as `head` has gone.
    if !isWritten { Glibc.exit(0) }
  }
}

/// Reads the end of a log file, and what is appended to it.
struct LogTail {
  struct Line: Equatable {
    let member: Int
    /// The time stamp, or that of the line before.
    let stamp: String
    let text: String
  }

  /// The most that is read back for the first lines.
  private static let tailBytesMax = 16 << 20

  let member: Int
  let path: String
  private var offset = 0
  private var inode: ino_t = 0
  private var stamp = ""
  private var splitter = LineSplitter()

  init(member: Int, path: String) {
    self.member = member
    self.path = path
  }

  /// Lines of several members, by time; each member's own lines keep their order.
  static func inOrder(_ lines: [Line]) -> [Line] {
    lines.enumerated()
      .sorted { ($0.element.stamp, $0.offset) < ($1.element.stamp, $1.offset) }
      .map(\.element)
  }

  mutating func lastLines(_ count: Int) -> [Line] {
    guard let status = status() else { return [] }
    let size = Int(status.st_size)
    inode = status.st_ino
    offset = max(0, size - Self.tailBytesMax)
    let startsInside = offset > 0
    var lines = read()
    if startsInside && !lines.isEmpty { lines.removeFirst() }
    return lines.suffix(count)
  }

  mutating func newLines() -> [Line] {
    guard let status = status() else { return [] }
    // The launcher has begun a new file, or somebody has emptied this one.
    if status.st_ino != inode || Int(status.st_size) < offset {
      inode = status.st_ino
      offset = 0
    }
    return Int(status.st_size) == offset ? [] : read()
  }

  private func status() -> stat? {
    var status = stat()
    return stat(path, &status) == 0 ? status : nil
  }

  private mutating func read() -> [Line] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return [] }
    defer { close(descriptor) }
    var chunk = [UInt8](repeating: 0, count: 256 * 1024)
    var lines: [Line] = []
    while true {
      let count = pread(descriptor, &chunk, chunk.count, offset)
      if count <= 0 { return lines }
      offset += count
      let texts = chunk.withUnsafeBytes { bytes in
        splitter.split(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
      }
      for text in texts { lines.append(line(text)) }
    }
  }

  private mutating func line(_ text: String) -> Line {
    if let range = text.firstRange(of: "\"ts\":\"") {
      stamp = String(text[range.upperBound...].prefix { $0 != "\"" })
    }
    return Line(member: member, stamp: stamp, text: text)
  }
}
