// One member as the supervisor keeps it.

import Actors

struct ManagedMember: ~Copyable {
  let plan: MemberPlan
  let arguments: [String]
  let dataPath: String
  let probeTarget: ProbeTarget
  var log: MemberLog
  var phase = MemberPhase.notStarted
  var child: ChildProcess?
  var identity: ProcessIdentity?
  /// Monotonic nanoseconds.
  var startedAt: UInt64 = 0
  /// Also tells one process of the member from the next.
  var starts = 0
  /// This process has served clients.
  var hasServed = false
  var role = MemberRole.unknown
  var output = LineSplitter()
  var errors = LineSplitter()
  var excerpt = LogExcerpt()
  var planner: RestartPlanner
  var restartTimer: LoopTimer?

  /// - Parameter joining: the initial cluster of a member that joins a running one.
  init(
    _ plan: MemberPlan, of cluster: ClusterFile, joining: String? = nil
  ) throws(SystemError) {
    self.plan = plan
    arguments = FlagRendering.arguments(for: plan, in: cluster, joining: joining)
    dataPath = cluster.dataPath(of: plan)
    probeTarget = ProbeTarget(plan, in: cluster)
    log = try MemberLog(path: cluster.logPath(of: plan))
    planner = RestartPlanner(policy: cluster.restart)
  }

  mutating func prepareRun(at now: UInt64) {
    starts += 1
    startedAt = now
    role = .unknown
    hasServed = false
    output = LineSplitter()
    errors = LineSplitter()
    excerpt = LogExcerpt()
    restartTimer?.cancel()
    restartTimer = nil
  }
}
