public import Base

/// The size of a simulated cluster, its load and its faults.
///
/// Times are microseconds of simulated time. Rates are events per 1,000 seconds unless said otherwise.
public struct SimulationOptions: Sendable {
  public var members = 3
  public var electionTicks = 10
  public var tick = 100_000
  public var preVote = true
  /// Seconds with faults.
  public var seconds = 20
  public var clients = 3
  public var watchers = 2
  public var keys = 6
  /// Between two requests of one client.
  public var thinkTime = 30_000
  /// Chances in 1,000 per message.
  public var loss = 0
  public var duplication = 0
  public var reordering = false
  public var messageDelay = 2_000
  public var syncDelay = 2_000
  public var applyDelay = 0
  public var storeCommitDelay = 20_000
  public var crash = 0
  public var powerCut = 0
  public var pause = 0
  public var partition = 0
  public var diskError = 0
  public var diskFull = 0
  public var transfer = 0
  public var membership = 0
  /// Parts in 1,000 by which a member's clock may run fast or slow.
  public var drift = 0
  /// Chances in 1,000 that a loss is noticed by the transport.
  public var unreachable = 0
  public var maxMessageBytes = 1 << 20
  public var maxInflightMessages = 512
  /// Chances in 1,000 that what a message brings about is seen to with the next input only.
  public var batching = 0
  /// Entries between two trims of the log, and those kept for slow members.
  public var entriesBetween = 40
  public var catchUpEntries = 10
  /// Shares of the requests.
  public var readShare = 30
  public var txnShare = 10
  public var deleteShare = 10
  public var leaseShare = 10
  public var compactionShare = 2

  public init() {}

  /// Nanoseconds.
  var electionTimeout: UInt64 { UInt64(electionTicks) * UInt64(tick) * 1000 }

  /// Swarm testing: each seed draws its own mix of faults, and leaves some out.
  public static func random(_ generator: inout SeededGenerator) -> SimulationOptions {
    var options = SimulationOptions()
    func draw(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
    func some(_ range: ClosedRange<Int>) -> Int {
      Bool.random(using: &generator) ? Int.random(in: range, using: &generator) : 0
    }
    options.members = [1, 2, 3, 3, 3, 3, 4, 5, 5, 5][draw(0...9)]
    options.electionTicks = draw(4...10)
    options.preVote = draw(0...3) > 0
    options.seconds = draw(8...30)
    options.clients = draw(1...5)
    options.watchers = draw(0...3)
    options.keys = draw(1...8)
    options.thinkTime = draw(0...2) == 0 ? draw(2_000...10_000) : draw(10_000...200_000)
    options.loss = some(1...200)
    options.duplication = some(1...100)
    options.reordering = draw(0...2) == 0
    options.messageDelay = draw(0...3) == 0 ? draw(50_000...400_000) : draw(200...20_000)
    options.syncDelay = draw(0...3) == 0 ? draw(50_000...500_000) : draw(100...20_000)
    options.applyDelay = some(100...200_000)
    options.storeCommitDelay = draw(1_000...500_000)
    options.crash = some(20...400)
    options.powerCut = some(20...400)
    options.pause = some(20...300)
    options.partition = some(20...400)
    options.diskError = draw(0...3) == 0 ? draw(10...100) : 0
    options.diskFull = draw(0...3) == 0 ? draw(10...100) : 0
    options.transfer = some(20...400)
    options.membership = some(50...600)
    options.drift = some(1...100)
    options.unreachable = some(100...900)
    options.maxMessageBytes = Bool.random(using: &generator) ? 200 : 1 << 20
    options.maxInflightMessages = Bool.random(using: &generator) ? 3 : 512
    options.entriesBetween = draw(3...80)
    options.catchUpEntries = draw(0...20)
    options.readShare = draw(5...50)
    options.txnShare = some(1...30)
    options.deleteShare = some(1...30)
    options.leaseShare = some(1...30)
    options.compactionShare = some(1...8)
    options.batching = some(100...900)
    return options
  }

  /// Gives a planted bug occasion to show: some need a rare conjunction of faults.
  mutating func favour(_ plant: Plant) {
    switch plant {
    case .readIDReuse:
      members = 3
      pause = 600
      readShare = 60
    case .tombstoneAtCompaction:
      watchers = 3
      deleteShare = 30
      compactionShare = 8
    default: break
    }
  }

  /// Takes one kind of trouble out.
  public mutating func remove(_ kind: FaultKind) {
    switch kind {
    case .loss: loss = 0
    case .duplication: duplication = 0
    case .reordering: reordering = false
    case .delay: messageDelay = 1_000
    case .partition: partition = 0
    case .crash: crash = 0
    case .powerCut: powerCut = 0
    case .pause: pause = 0
    case .drift: drift = 0
    case .diskError: diskError = 0
    case .diskFull: diskFull = 0
    case .slowDisk: syncDelay = 1_000
    case .slowApply: applyDelay = 0
    case .transfer: transfer = 0
    case .membership: membership = 0
    case .compaction: compactionShare = 0
    case .unreachable: unreachable = 0
    case .leases: leaseShare = 0
    case .watchers: watchers = 0
    case .txns: txnShare = 0
    case .reads: readShare = 0
    case .trimming: entriesBetween = 1 << 30
    case .batching: batching = 0
    case .smallMessages:
      maxMessageBytes = 1 << 20
      maxInflightMessages = 512
    }
  }

  /// Ends all faults; what is left is a healthy cluster.
  mutating func heal() {
    for kind in [
      FaultKind.loss, .duplication, .reordering, .delay, .partition, .crash, .powerCut, .pause,
      .diskError, .diskFull, .slowDisk, .slowApply, .transfer, .membership,
    ] {
      remove(kind)
    }
    storeCommitDelay = 5_000
  }
}
