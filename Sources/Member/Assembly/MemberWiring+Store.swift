import Actors
import Base
import EtcdAPI
import Glibc
import RaftActor
import StoreActor
import Synchronization

/// The store, its file, the compactor and the quota monitor.
extension MemberWiring {
  func makeStore(
    _ raft: RaftNode, _ peers: PeerTransport
  ) -> (KVStore, BackendWriter) {
    let reports = Relay<BackendReport>()
    let pauses = Relay<Void>()
    let backendWriter = BackendWriter(
      backend: storage.backend, executor: backendThread, exporter: exportThread
    ) {
      reports.send($0)
    }
    let tick = configuration.heartbeatInterval.nanoseconds
    let progress = configuration.watchProgressNotifyInterval.nanoseconds
    let store = KVStore(
      machine: storage.machine.take(), backend: storage.backend, backendInbox: backendWriter.inbox,
      settings: KVStore.Settings(
        quotaBytes: quotaBytes, electionTimeout: configuration.electionTimeout.nanoseconds,
        fragmentBytes: Int(configuration.maxRequestBytes) + (512 << 10),
        snapshotDirectory: snapshotDirectory,
        progressTicks: Int(max(1, progress / max(1, tick))),
        slowApply: configuration.warningApplyDuration.nanoseconds,
        compactionBatch: configuration.compactionBatchLimit,
        hashesCompactions: configuration.featureGates.isEnabled(.compactHashCheck)),
      executor: storeThread, outlets: storeOutlets(raft, peers, pauses))
    let inbox = store.inbox
    let pause = Int(configuration.compactionSleepInterval.wholeNanoseconds / 1_000_000)
    let loop = loop
    let pauseTimer = LoopTimer(loop: loop) { inbox.send(.pauseEnded) }
    pauses.connect { loop.execute { pauseTimer.schedule(afterMilliseconds: max(1, pause)) } }
    reports.connect { inbox.send(.backend($0)) }
    return (store, backendWriter)
  }

  func storeOutlets(
    _ raft: RaftNode, _ peers: PeerTransport, _ pauses: Relay<Void>
  ) -> StoreOutlets {
    let raftInbox = raft.inbox
    let gateway = gatewayInbox
    let controller = controllerInbox
    let quota = quotaInbox
    let metrics = metrics
    let fatal = fatal
    let log = log
    let member = storage.member
    let supervisor = supervisorInbox
    let joining = JoiningPeers(local: member, told: storage.joins)
    let slowApply = configuration.warningApplyDuration
    let ids = Mutex(RequestIDGenerator(member: ~storage.member, unixMilliseconds: 0))
    return StoreOutlets(
      reply: { gateway.send(.replies($0)) },
      deliver: { gateway.send(.watch($0)) },
      stream: { gateway.send(.part(id: $0, message: $1)) },
      applied: { raftInbox.send(.applied($0)) },
      configurationApplied: { raftInbox.send(.configurationApplied($0, index: $1)) },
      stored: { raftInbox.send(.stored($0)) },
      snapshotMade: { member, snapshot, path in
        if snapshot == nil {
          unlink(path)
        } else {
          peers.submit(.snapshotFile(to: member, path: path))
        }
        raftInbox.send(.snapshotMade(for: member, snapshot))
      },
      snapshotInstalled: { index in
        log.info("applied snapshot", ("snapshot-index", index))
        raftInbox.send(.snapshotInstalled(index))
      },
      exported: { gateway.send(.exported(id: $0, $1)) },
      proposeAsLeader: { term, requests in
        // Nobody waits for these, so their ids carry no member's bits that anybody looks for.
        let payloads = requests.map { kind, payload in
          InternalRequestEnvelope.wrap(
            kind, payload: payload, requestID: ids.withLock { $0.next() })
        }
        raftInbox.send(.proposeAsLeader(term, payloads: payloads))
      },
      raiseNoSpace: { quota.send(.exceeded(alarmIsRaised: $0)) },
      membershipChanged: { membership in
        peers.submit(.members(joining.peers(of: membership), removed: membership.removed))
        controller.send(.membership(membership))
        if let version = membership.clusterVersion {
          let minor = version.split(separator: ".").prefix(2).joined(separator: ".")
          metrics.info.setClusterVersion(minor)
        }
        if membership.removed.contains(member) { supervisor.send(.removalApplied) }
      },
      compactionFinished: { revision, hash in
        if let hash {
          log.info(
            "finished scheduled compaction", ("compact-revision", revision), ("hash", hash))
        } else {
          log.info("finished scheduled compaction", ("compact-revision", revision))
        }
      },
      pause: { pauses.send(()) },
      measured: { measure in
        switch measure {
        case .commit(let nanoseconds):
          metrics.disk.backendCommit.observe(Double(nanoseconds) / 1e9)
        case .applied(let counts):
          metrics.mvcc.putTotal.increment(by: counts.puts)
          metrics.mvcc.deleteTotal.increment(by: counts.deletes)
          metrics.mvcc.txnTotal.increment(by: counts.txns)
          metrics.lease.granted.increment(by: counts.grants)
          metrics.lease.revoked.increment(by: counts.revokes)
        case .ranges(let count): metrics.mvcc.rangeTotal.increment(by: UInt64(count))
        case .slowApply(let nanoseconds, let entries):
          metrics.server.slowApplies.increment()
          log.warn(
            "apply request took too long", ("took", Duration.nanoseconds(Int64(nanoseconds))),
            ("expected-duration", slowApply), ("entries", entries))
        case .diskFull(let bytes):
          log.warn(
            "the disk of the data directory is full; changes wait in memory until there is room",
            ("waiting-bytes", bytes))
        }
      },
      failed: { fatal.end($0) })
  }

  var quotaBytes: Int64? {
    configuration.quotaBackendBytes < 0 ? nil : configuration.quotaBackendBytes
  }

  func makeStreamer() -> SnapshotStreamer {
    let gateway = gatewayInbox
    return SnapshotStreamer(
      version: ProductVersion.etcdMinor, executor: backendThread,
      deliver: { gateway.send(.chunks(id: $0, $1, isLast: $2)) },
      failed: { gateway.send(.replies([StoreReply(id: $0, outcome: .failure($1))])) })
  }

  func makeCompactor() -> Compactor {
    let gateway = gatewayInbox
    let finished = Relay<Bool>()
    let policy: CompactionSchedule.Policy
    let kind: String
    switch configuration.autoCompaction {
    case .off: (policy, kind) = (.off, "")
    case .periodic(let time): (policy, kind) = (.periodic(retention: time.nanoseconds), "periodic")
    case .revision(let kept): (policy, kind) = (.revisions(kept), "revision")
    }
    let log = log.named("compactor")
    let compactor = Compactor(
      schedule: CompactionSchedule(policy: policy, now: monotonicNanoseconds()),
      executor: storeThread
    ) { revision in
      var request = ProtobufWriter()
      request.field(1, signed: revision)
      log.info("starting auto \(kind) compaction", ("revision", revision))
      gateway.send(
        .propose(.compaction, request.bytes) { outcome in
          switch outcome {
          case .message:
            log.info("completed auto \(kind) compaction", ("revision", revision))
            finished.send(true)
          case .failure(.compacted): finished.send(true)
          case .failure(let error):
            log.warn(
              "failed auto \(kind) compaction", ("revision", revision), ("error", error.message))
            finished.send(false)
          }
        })
    }
    let inbox = compactor.inbox
    finished.connect { inbox.send(.finished($0)) }
    return compactor
  }

  func makeQuotaMonitor() -> QuotaMonitor {
    let gateway = gatewayInbox
    let inbox = quotaInbox
    let log = log
    return QuotaMonitor(
      member: storage.member, quota: quotaBytes, inbox: quotaInbox, executor: storeThread,
      outlets: QuotaMonitor.Outlets(
        propose: { request in
          gateway.send(
            .propose(.alarm, request) { outcome in
              if case .message = outcome {
                inbox.send(.settled(true))
              } else {
                inbox.send(.settled(false))
              }
            })
        },
        settled: { gateway.send(.spaceAlarmSettled) },
        warn: { message, size, quota in
          log.warn(message, ("quota-size-bytes", quota), ("size-bytes", size))
        }))
  }
}
