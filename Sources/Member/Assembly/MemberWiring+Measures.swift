import Base
import EtcdAPI
import RaftActor
import StoreActor
import Synchronization

/// What the store measures, as metrics and log lines.
extension MemberWiring {
  func storeMeasures() -> @Sendable (StoreMeasure) -> Void {
    let metrics = metrics
    let log = log
    let slowApply = configuration.warningApplyDuration
    let directory = configuration.dataDirectory + "/member/store"
    let backend = storage.backend
    return { measure in
      switch measure {
      case .commit(let nanoseconds):
        metrics.disk.backendCommit.observe(seconds(nanoseconds))
        metrics.disk.commitWrite.observe(seconds(nanoseconds))
      case .applied(let counts): metrics.count(counts)
      case .slowApply(let nanoseconds, let request, let failure):
        metrics.server.slowApplies.increment()
        log.warn(
          "apply request took too long", ("took", Duration.nanoseconds(Int64(nanoseconds))),
          ("expected-duration", slowApply), ("prefix", ""), ("request", request),
          ("response", ""), ("error", failure?.message))
      case .expired(let leases): metrics.lease.expired.increment(by: UInt64(leases))
      case .compactionStep(let nanoseconds):
        metrics.mvcc.compactionPause.observe(Double(nanoseconds) / 1e6)
        // The same step removes revisions from the index.
        metrics.mvcc.indexCompactionPause.observe(Double(nanoseconds) / 1e6)
      case .defragmentationBegan:
        metrics.disk.defragInflight.set(true)
        log.info("defragmenting", ("path", directory), ("current-db-size-bytes", backend.sizeBytes))
      case .defragmentationEnded(let nanoseconds, let error):
        metrics.disk.defragInflight.set(false)
        metrics.disk.backendDefrag.observe(seconds(nanoseconds))
        if let error {
          log.warn("failed to defragment", ("path", directory), ("error", "\(error)"))
        } else {
          log.info(
            "finished defragmenting directory", ("path", directory),
            ("current-db-size-bytes", backend.sizeBytes),
            ("current-db-size-in-use-bytes", backend.sizeInUseBytes),
            ("took", Duration.nanoseconds(Int64(nanoseconds))))
        }
      case .hashed(let nanoseconds): metrics.mvcc.hashDuration.observe(seconds(nanoseconds))
      case .hashedRevision(let nanoseconds):
        metrics.mvcc.hashRevDuration.observe(seconds(nanoseconds))
      case .diskFull(let bytes):
        log.warn(
          "the disk of the data directory is full; changes wait in memory until there is room",
          ("waiting-bytes", bytes))
      }
    }
  }
}

private func seconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1e9 }

extension MemberMetrics {
  fileprivate func count(_ counts: ApplyCounts) {
    mvcc.rangeTotal.increment(by: counts.ranges)
    mvcc.putTotal.increment(by: counts.puts)
    mvcc.totalPutSize.add(Int64(counts.putBytes))
    mvcc.deleteTotal.increment(by: counts.deletes)
    mvcc.txnTotal.increment(by: counts.txns)
    lease.granted.increment(by: UInt64(counts.grantedTTLs.count))
    for ttl in counts.grantedTTLs { lease.ttl.observe(Double(ttl)) }
    lease.renewed.increment(by: counts.renewals)
    lease.revoked.increment(by: counts.revokes)
  }

  func finished(_ compaction: FinishedCompaction, unixSeconds: Int64) {
    mvcc.compactionKeys.increment(by: compaction.records)
    mvcc.compactionLast.set(unixSeconds)
    mvcc.compactionTotal.observe(Double(compaction.nanoseconds) / 1e6)
  }
}

extension EtcdLogger {
  func finished(_ compaction: FinishedCompaction) {
    let size = ("current-db-size-bytes", compaction.sizeBytes)
    let inUse = ("current-db-size-in-use-bytes", compaction.sizeInUseBytes)
    let took = ("took", Duration.nanoseconds(Int64(compaction.nanoseconds)))
    let revision = ("compact-revision", compaction.revision)
    let records = ("number-of-keys-compacted", compaction.records)
    if let hash = compaction.hash {
      info("finished scheduled compaction", revision, took, records, ("hash", hash), size, inUse)
    } else {
      info("finished scheduled compaction", revision, took, records, size, inUse)
    }
  }
}

/// The histograms of apply times, found without a lookup.
final class ApplyTimes: Sendable {
  /// By kind and outcome: `2 * position + (succeeded ? 1 : 0)`.
  private let histograms: [Histogram?]
  private static let kinds: [InternalRequestEnvelope.Kind] = [
    .range, .put, .deleteRange, .txn, .compaction, .leaseGrant, .leaseRevoke, .alarm,
    .leaseCheckpoint,
  ]
  private let metrics: ServerMetrics

  init(_ metrics: ServerMetrics) {
    self.metrics = metrics
    histograms = Self.kinds.flatMap { kind in
      ["false", "true"].map { metrics.applyDuration.series("v3", Self.name(kind), $0) }
    }
  }

  func observe(_ kind: InternalRequestEnvelope.Kind, succeeded: Bool, nanoseconds: UInt64) {
    let position = kind.rawValue - InternalRequestEnvelope.Kind.range.rawValue
    let histogram =
      position < Self.kinds.count
      ? histograms[2 * position + (succeeded ? 1 : 0)]
      : metrics.applyDuration.series("v3", Self.name(kind), succeeded ? "true" : "false")
    histogram?.observe(Double(nanoseconds) / 1e9)
  }

  /// etcd's names of requests: `Put`, `LeaseGrant`, `AuthUserAdd`.
  private static func name(_ kind: InternalRequestEnvelope.Kind) -> String {
    let name = "\(kind)"
    return name.prefix(1).uppercased() + name.dropFirst()
  }
}

/// The series of each peer. Any thread; a short lock.
final class PeerSeries: Sendable {
  struct Series: Sendable {
    let sentBytes: Counter
    let sendFailures: Counter
    let receivedBytes: Counter
    let receiveFailures: Counter
    let roundTrip: Histogram
    let active: Gauge
    let disconnected: Counter
  }

  private struct State {
    var series: [MemberID: Series] = [:]
    var members: Set<MemberID> = []
  }

  private let local: MemberID
  private let metrics: NetworkMetrics
  private let state = Mutex(State())

  init(local: MemberID, metrics: NetworkMetrics) {
    self.local = local
    self.metrics = metrics
  }

  /// Every peer has its series from the moment it is a member: a rate needs a zero to begin from.
  func update(_ membership: Membership) {
    state.withLock { state in
      let present = Set(membership.members.map(\.id).filter { $0 != local })
      for id in present.subtracting(state.members) {
        metrics.addPeer(local: local.hex, remote: id.hex)
      }
      for id in state.members.subtracting(present) {
        metrics.removePeer(local: local.hex, remote: id.hex)
      }
      state.members = present
    }
  }

  subscript(id: MemberID) -> Series {
    state.withLock { state in
      if let known = state.series[id] { return known }
      let remote = id.hex
      let series = Series(
        sentBytes: metrics.peerSentBytes.series(remote),
        sendFailures: metrics.peerSentFailures.series(remote),
        receivedBytes: metrics.peerReceivedBytes.series(remote),
        receiveFailures: metrics.peerReceivedFailures.series(remote),
        roundTrip: metrics.peerRoundTripTime.series(remote),
        active: metrics.activePeers.series(local.hex, remote),
        disconnected: metrics.disconnectedPeers.series(local.hex, remote))
      state.series[id] = series
      return series
    }
  }

  func linkChanged(_ id: MemberID, isActive: Bool) {
    let series = self[id]
    series.active.set(isActive)
    if !isActive { series.disconnected.increment() }
  }
}
