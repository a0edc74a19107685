import Actors
import Base
import FoundationEssentials
import Glibc
import HTTP
import RaftActor
import StoreActor

extension ClientGateway {
  /// `/debug/vars`: the variables that etcd publishes under Go's expvar, in its order.
  func debugVariables() -> PageResponse {
    refreshStatus()
    let text = """
      {
      "cmdline": \(JSONText.array(settings.http.commandLine)),
      "file_descriptor_limit": \(DescriptorLimit.current ?? 0),
      "memstats": \(ProfilePages.memoryStatistics),
      "raft.status": \(raftVariables)
      }

      """
    return PageResponse(status: 200, contentType: "application/json; charset=utf-8", body: text)
  }

  private var raftVariables: String {
    let status = raftStatus
    let progress =
      status.role == .leader
      ? status.peers.map { peer in
        "\"\(peer.id.hex)\":{\"match\":\(peer.match),\"next\":\(peer.next),"
          + "\"state\":\"\(peer.stateName)\"}"
      }.joined(separator: ",") : ""
    return "{\"id\":\"\(status.id.hex)\",\"term\":\(status.term),\"vote\":\"\(status.vote.hex)\","
      + "\"commit\":\(status.commit),\"lead\":\"\(status.leader.hex)\","
      + "\"raftState\":\"\(status.role.stateName)\",\"applied\":\(storeStatus.applied),"
      + "\"progress\":{\(progress)},\"leadtransferee\":\"\(status.transferee.hex)\"}"
  }
}

/// Go's profiles, as far as a program that is not written in Go has them.
enum ProfilePages {
  private static let text = "text/plain; charset=utf-8"

  /// - Parameter name: what follows `/debug/pprof/`.
  static func page(_ name: String) -> PageResponse {
    switch name {
    case "": PageResponse(status: 200, contentType: text, body: index)
    case "cmdline":
      PageResponse(
        status: 200, contentType: text,
        body: CommandLine.arguments.joined(separator: "\0"))
    case "threadcreate": PageResponse(status: 200, contentType: text, body: threads)
    case "heap", "allocs": PageResponse(status: 200, contentType: text, body: heap)
    case "profile", "trace", "goroutine", "block", "mutex", "symbol":
      PageResponse(
        error: 501,
        "apus: no \(name) profile: this is no Go program. Use perf or gdb on process \(getpid()).")
    default:
      PageResponse(error: 404, "Unknown profile", headers: [HTTPField("X-Go-Pprof", "1")])
    }
  }

  private static let index = """
    /debug/pprof/

    heap          memory of the allocator
    threadcreate  threads with their names and CPU time
    cmdline       the command line of this process

    Go's own profiles (profile, trace, goroutine, block, mutex, symbol) do not exist here: use
    perf or gdb.

    """

  /// What the kernel says of the process's memory.
  private static var heap: String {
    let lines = ProcessMetrics.read("/proc/self/status")?.split(separator: "\n") ?? []
    let memory = lines.filter { $0.hasPrefix("Vm") || $0.hasPrefix("Rss") }
    return "memory of the process\n" + memory.map { "\($0)\n" }.joined()
  }

  /// The fields of Go's `memstats` that mean something here: memory in use, and all that was asked of
  /// the system, bytes.
  static var memoryStatistics: String {
    let stat = ProcessMetrics.read("/proc/self/stat").flatMap { ProcessMetrics.Stat($0) }
    let resident = (stat?.residentPages ?? 0) * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    return "{\"Alloc\":\(resident),\"Sys\":\(stat?.virtualBytes ?? 0)}"
  }

  /// One line per thread: id, name, CPU seconds.
  private static var threads: String {
    let folder = "/proc/self/task"
    let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    let ids = entries.compactMap { Int($0) }.sorted()
    let lines = ids.map { id in
      let stat = ProcessMetrics.read("\(folder)/\(id)/stat").flatMap { ProcessMetrics.Stat($0) }
      let name = ProcessMetrics.read("\(folder)/\(id)/comm") ?? "?\n"
      return "\(id) \(Double(stat?.cpuTicks ?? 0) / ticks) \(name)"
    }
    return "threadcreate profile: total \(ids.count)\n" + lines.joined()
  }
}

extension RaftCore.Role {
  /// As etcd's raft library prints it.
  var stateName: String {
    switch self {
    case .follower: "StateFollower"
    case .preCandidate: "StatePreCandidate"
    case .candidate: "StateCandidate"
    case .leader: "StateLeader"
    }
  }
}

extension RaftCore.PeerStatus {
  /// As etcd's raft library prints it.
  var stateName: String {
    switch state {
    case .probe: "StateProbe"
    case .replicate: "StateReplicate"
    case .snapshot: "StateSnapshot"
    }
  }
}
