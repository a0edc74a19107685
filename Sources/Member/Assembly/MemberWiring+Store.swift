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
    let pauses = Relay<StorePause>()
    let later = Relay<(Int, BackendInput)>()
    let backendWriter = BackendWriter(
      backend: storage.backend, executor: backendThread, exporter: exportThread,
      later: { later.send(($0, $1)) }, report: { reports.send($0) })
    let tick = configuration.heartbeatInterval.nanoseconds
    let progress = configuration.watchProgressNotifyInterval.nanoseconds
    var settings = KVStore.Settings(
      quotaBytes: quotaBytes, electionTimeout: configuration.electionTimeout.nanoseconds,
      fragmentBytes: Int(configuration.maxRequestBytes) + (512 << 10),
      snapshotDirectory: snapshotDirectory,
      progressTicks: Int(max(1, progress / max(1, tick))),
      slowApply: configuration.warningApplyDuration.nanoseconds,
      compactionBatch: configuration.compactionBatchLimit,
      hashesCompactions: configuration.featureGates.isEnabled(.compactHashCheck))
    settings.commitTicks = Int(
      max(1, configuration.backendBatchInterval.nanoseconds / max(1, tick)))
    settings.commitEntries = configuration.backendBatchLimit
    let store = KVStore(
      machine: storage.machine.take(), backend: storage.backend, backendInbox: backendWriter.inbox,
      settings: settings, executor: storeThread, tokens: auth.tokens,
      outlets: storeOutlets(raft, peers, pauses))
    let inbox = store.inbox
    let pause = Int(configuration.compactionSleepInterval.wholeNanoseconds / 1_000_000)
    let loop = loop
    let compactionPause = LoopTimer(loop: loop) { inbox.send(.pauseEnded(.compaction)) }
    let readPause = LoopTimer(loop: loop) { inbox.send(.pauseEnded(.longReads)) }
    pauses.connect { kind in
      loop.execute {
        switch kind {
        case .compaction: compactionPause.schedule(afterMilliseconds: max(1, pause))
        case .longReads: readPause.schedule(afterMilliseconds: 1)
        }
      }
    }
    reports.connect { inbox.send(.backend($0)) }
    let backendInbox = backendWriter.inbox
    later.connect { milliseconds, input in
      loop.execute {
        LoopTimer(loop: loop) { backendInbox.send(input) }.schedule(afterMilliseconds: milliseconds)
      }
    }
    return (store, backendWriter)
  }

  func storeOutlets(
    _ raft: RaftNode, _ peers: PeerTransport, _ pauses: Relay<StorePause>
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
    let network = peerSeries
    let applyTimes = ApplyTimes(metrics.server)
    let ranges = (
      succeeded: metrics.server.rangeDuration.series("true"),
      failed: metrics.server.rangeDuration.series("false")
    )
    let ids = Mutex(RequestIDGenerator(member: ~storage.member, unixMilliseconds: 0))
    return StoreOutlets(
      reply: { gateway.send(.replies($0)) },
      deliver: { gateway.send(.watch($0, $1)) },
      stream: { gateway.send(.part(id: $0, message: $1)) },
      deferred: { gateway.send(.deferred(id: $0)) },
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
        metrics.server.snapshotApplyInProgress.set(false)
        log.info("applied snapshot", ("snapshot-index", index))
        raftInbox.send(.snapshotInstalled(index))
      },
      exported: { gateway.send(.exported(id: $0, $1)) },
      proposeAsLeader: { term, caller, requests in
        // Nobody waits for these, so their ids carry no member's bits that anybody looks for.
        let payloads = requests.map { kind, payload in
          InternalRequestEnvelope.wrap(
            kind, payload: payload, requestID: ids.withLock { $0.next() },
            username: caller.username, authRevision: caller.revision)
        }
        raftInbox.send(.proposeAsLeader(term, payloads: payloads))
      },
      raiseNoSpace: { quota.send(.exceeded(alarmIsRaised: $0)) },
      diskFull: { quota.send(.diskFull(alarmIsRaised: $0, reason: $1)) },
      membershipChanged: { membership in
        peers.submit(.members(joining.peers(of: membership), removed: membership.removed))
        controller.send(.membership(membership))
        network.update(membership)
        if let version = membership.clusterVersion {
          let minor = version.split(separator: ".").prefix(2).joined(separator: ".")
          metrics.info.setClusterVersion(minor)
        }
        if membership.removed.contains(member) { supervisor.send(.removalApplied) }
      },
      authChanged: { gateway.send(.authChanged) },
      compactionFinished: { compaction in
        metrics.finished(compaction, unixSeconds: unixSeconds())
        log.finished(compaction)
      },
      pause: { pauses.send($0) },
      measured: storeMeasures(),
      applyTook: { applyTimes.observe($0, succeeded: $1, nanoseconds: $2) },
      rangeTook: { succeeded, nanoseconds in
        (succeeded ? ranges.succeeded : ranges.failed).observe(Double(nanoseconds) / 1e9)
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
