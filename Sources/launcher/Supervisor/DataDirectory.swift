// The folder that holds the members' data: one launcher at a time, and who runs there.

import Glibc

/// The right to run a cluster in a data folder. Given back when the process ends, however it ends.
struct DataDirectoryLock: ~Copyable {
  private let descriptor: Int32

  /// Takes the lock and leaves this process's id in it.
  ///
  /// - Throws: ``ControlError`` that names the launcher that has it.
  init(_ cluster: ClusterFile) throws(ControlError) {
    let path = cluster.lockPath
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw ControlError("\(path) cannot be opened: \(systemText(errno))")
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let owner = ((try? Files.read(path)) ?? "").split(separator: "\n").first.map {
        " (pid \($0))"
      }
      close(descriptor)
      throw ControlError(
        "a launcher\(owner ?? "") runs the cluster in \(cluster.dataDirectory) already; "
          + "see it with: launcher status --config \(cluster.path)")
    }
    ftruncate(descriptor, 0)
    Files.writeAll(descriptor, "\(getpid())\n")
    self.descriptor = descriptor
  }

  deinit {
    ftruncate(descriptor, 0)
    close(descriptor)
  }
}

/// The processes of a cluster, kept on disk so that a later launcher finds those that live on.
struct ProcessRecord: Equatable, Sendable {
  struct Member: Equatable, Sendable {
    let name: String
    let process: ProcessIdentity
  }

  let members: [Member]

  init(members: [Member]) { self.members = members }

  init?(parsing text: String) {
    guard let list = JSONValue(parsing: text)?["members"]?.elements else { return nil }
    members = list.compactMap { element in
      guard let name = element["name"]?.text, let pid = element["pid"]?.integer(as: Int32.self),
        let start = element["start-ticks"]?.integer(as: UInt64.self)
      else { return nil }
      return Member(name: name, process: ProcessIdentity(pid: pid, startTicks: start))
    }
  }

  var text: String {
    let list = members.map { member in
      JSONValue.object([
        .init("name", .string(member.name)), .init("pid", .int(member.process.pid)),
        .init("start-ticks", .int(member.process.startTicks)),
      ])
    }
    return JSONValue.object([.init("members", .array(list))]).prettyText() + "\n"
  }

  /// Members of an earlier launcher that are still there.
  static func survivors(_ cluster: ClusterFile) -> [Member] {
    guard let text = try? Files.read(cluster.processesPath),
      let record = ProcessRecord(parsing: text)
    else { return [] }
    return record.members.filter { ProcessTable.isAlive($0.process) }
  }

  /// What to tell the user about survivors; nil if there are none.
  static func advice(_ survivors: [Member]) -> String? {
    if survivors.isEmpty { return nil }
    let list = survivors.map { "\($0.name) (pid \($0.process.pid))" }.joined(separator: ", ")
    let pids = survivors.map { String($0.process.pid) }.joined(separator: " ")
    return "members of an earlier launcher are still running: \(list); stop them with: kill \(pids)"
  }
}
