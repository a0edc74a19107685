import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor
import Synchronization

/// Raft, its log and its peers.
extension MemberWiring {
  /// A commit is told to followers with the next entries; without any, after so many milliseconds. A
  /// client in a closed loop sends its next write before that, which saves every follower a message, an
  /// answer and two wake-ups per write.
  private static let commitNewsDelay = 2
  /// Entries that the loop applies itself when the store is idle.
  private static let entriesAppliedHereMax = 4
  /// Watchers, each of which might want what is applied.
  private static let watchersServedHereMax = 64

  func makeRaft() -> RaftNode {
    let core = RaftCore(
      configuration: RaftCore.Configuration(
        id: storage.member, electionTicks: configuration.electionTicks,
        preVote: configuration.preVote, announcesCommitLazily: true),
      hardState: storage.hardState, snapshot: storage.base, entries: storage.entries,
      applied: storage.applied, confState: storage.confState,
      generator: SeededGenerator(seed: storage.member ^ monotonicNanoseconds()))
    return RaftNode(
      core: core,
      policy: .init(
        entriesBetween: configuration.snapshotCount,
        catchUpEntries: configuration.snapshotCatchupEntries,
        parkedTicksMax: Int(
          configuration.requestTimeout.wholeNanoseconds
            / configuration.heartbeatInterval.wholeNanoseconds)),
      executor: loop)
  }

  /// A sync that takes longer is told, as in etcd. Nanoseconds.
  private static let slowSync: UInt64 = 1_000_000_000

  func makeLogWriter(_ raft: RaftNode, _ desk: LogDesk) -> LogWriter {
    let metrics = metrics
    let log = log
    let fatal = fatal
    let inbox = raft.inbox
    return LogWriter(
      log: storage.log.take(), segmentsKept: configuration.maxWALs,
      syncs: !configuration.unsafeNoFsync, executor: logThread,
      outlets: LogWriter.Outlets(
        persisted: { inbox.send(.persisted($0)) },
        failed: { fatal.end("\($0)") },
        measured: { measure in
          switch measure {
          case .wrote(let bytes, let nanoseconds):
            metrics.disk.walWriteBytes.add(Int64(bytes))
            metrics.disk.walWrite.observe(Double(nanoseconds) / 1e9)
          case .synced(let nanoseconds):
            desk.synced(nanoseconds: nanoseconds)
            metrics.disk.walFsync.observe(Double(nanoseconds) / 1e9)
            guard nanoseconds > Self.slowSync else { return }
            log.warn(
              "slow fdatasync", ("took", Duration.nanoseconds(Int64(nanoseconds))),
              ("expected-duration", Duration.nanoseconds(Int64(Self.slowSync))))
          case .marked(let encoding, let saving):
            metrics.disk.snapMarshalling.observe(Double(encoding) / 1e9)
            metrics.disk.snapFsync.observe(Double(saving) / 1e9)
            metrics.disk.snapSaveTotal.observe(Double(encoding + saving) / 1e9)
          }
        }))
  }

  func connect(
    _ raft: RaftNode, _ logWriter: LogWriter, _ desk: LogDesk, _ store: KVStore,
    _ peers: PeerTransport
  ) throws(EventLoopError) {
    let gateway = gatewayInbox
    let controller = controllerInbox
    let supervisor = supervisorInbox
    let storeInbox = store.inbox
    let logInbox = logWriter.inbox
    let log = log.named("raft")
    let metrics = metrics
    let directory = snapshotDirectory
    let fatal = fatal
    let raftInbox = raft.inbox
    let announcer = try QuietTimer(loop: loop, milliseconds: Self.commitNewsDelay) {
      raftInbox.send(.announceCommit)
    }
    raft.start(
      RaftOutlets(
        write: { batch in
          if let index = batch.releaseThrough {
            log.info("saved snapshot", ("snapshot-index", index))
          }
          desk.take(batch, to: logInbox)
        },
        send: { peers.submit(.send($0)) },
        apply: { entries in
          // A few puts are applied at once, everything else on the other thread.
          if entries.count <= MemberWiring.entriesAppliedHereMax,
            entries.allSatisfy(InternalRequestEnvelope.isBrief),
            store.status.watch.watchers <= MemberWiring.watchersServedHereMax
          {
            storeInbox.sendRunningHere(.apply(entries))
          } else {
            storeInbox.send(.apply(entries))
          }
        },
        confirmReads: { gateway.send(.reads($0)) },
        softStateChanged: { state in
          log.info(
            "raft state changed", ("role", "\(state.role)"), ("leader", state.leader.hex),
            ("term", state.term))
          storeInbox.send(.role(state))
          gateway.send(.softState(state))
          controller.send(.softState(state))
          supervisor.send(.softState(state))
        },
        proposalsDropped: { gateway.send(.proposalsDropped($0, $1)) },
        makeSnapshot: { storeInbox.send(.makeSnapshot(for: $0)) },
        installSnapshot: { snapshot in
          metrics.server.snapshotApplyInProgress.set(true)
          let path = StorageLoader.receivedSnapshot(snapshot.metadata.index, in: directory)
          storeInbox.send(.install(snapshot, path: path))
        },
        failed: { fatal.end($0) },
        announceLater: { announcer.restart() }))
  }

  func makePeers(_ raft: RaftNode, _ running: Running) -> PeerTransport {
    var peerConfiguration = PeerConfiguration(
      id: storage.member, clusterID: storage.cluster,
      advertisedURLs: configuration.advertisePeerURLs.map(\.description),
      listen: configuration.listenPeerURLs.map(\.listenAddress), dialing: security.dialing,
      snapshotDirectory: snapshotDirectory)
    peerConfiguration.serverVersion = ProductVersion.etcd
    peerConfiguration.electionTimeoutMilliseconds = Int(
      configuration.electionTimeout.wholeNanoseconds / 1_000_000)
    let (security, loop) = (security, loop)
    peerConfiguration.secureListeners = { security.peerListeners(loop: loop) }
    return PeerTransport(
      configuration: peerConfiguration, outlets: peerOutlets(raft, running), loop: loop)
  }

  func peerOutlets(_ raft: RaftNode, _ running: Running) -> PeerOutlets {
    let inbox = raft.inbox
    let gateway = gatewayInbox
    let services = servicesInbox
    let examiner = exportThread
    let supervisor = supervisorInbox
    let log = log
    let series = peerSeries
    let wakesEarly = OnceFlag(
      configuration.initialElectionTickAdvance && storage.confState.voters.count > 1)
    let advance = configuration.electionTicks - 2
    return PeerOutlets(
      received: { inbox.send(.messages($0)) },
      unreachable: { inbox.send(.unreachable($0)) },
      snapshotSent: { member, succeeded in
        if succeeded { log.info("sent database snapshot", ("remote-peer-id", member.hex)) }
        inbox.send(.snapshotSent(to: member, succeeded: succeeded))
      },
      snapshotReceived: { message, path in
        guard let snapshot = message.snapshot else { return }
        // Raft hears of it once it is known to be good: there is no way back from then on.
        examiner.execute {
          do {
            try ReceivedStore.examine(path, snapshot)
            log.info("received database snapshot", ("path", path), ("from", message.from.hex))
            inbox.send(.messages([message]))
          } catch {
            log.warn(
              "a received database snapshot is unusable", ("path", path),
              ("from", message.from.hex), ("error", "\(error)"))
            ReceivedStore.remove(path)
          }
        }
      },
      request: { services.send(.request($0)) },
      response: { id, result in
        let handler = running.peerQuestions.withLock { $0.asked.removeValue(forKey: id) }
        if let handler { return handler(result) }
        switch result {
        case .success(let response):
          gateway.send(.peerResponse(id: id, status: response.status, body: response.body))
        case .failure: gateway.send(.peerResponse(id: id, status: nil, body: []))
        }
      },
      linkChanged: { member, isActive in
        series.linkChanged(member, isActive: isActive)
        gateway.send(.linkChanged(member, isActive: isActive))
        // The first peer is there: no need to wait out a whole election timeout at start.
        if isActive, wakesEarly.take() { inbox.send(.advance(ticks: advance)) }
      },
      removedFromCluster: { supervisor.send(.removed) },
      log: { level, message, fields in log.write(level, message, fields) },
      metrics: peerMetrics())
  }

  func peerMetrics() -> PeerMetrics {
    let network = metrics.network
    var peerMetrics = PeerMetrics()
    let series = peerSeries
    let disk = metrics.disk
    peerMetrics.sentBytes = { series[$0].sentBytes.increment(by: UInt64($1)) }
    peerMetrics.receivedBytes = { series[$0].receivedBytes.increment(by: UInt64($1)) }
    peerMetrics.sendFailed = { series[$0].sendFailures.increment() }
    peerMetrics.receiveFailed = { series[$0].receiveFailures.increment() }
    peerMetrics.roundTrip = { series[$0].roundTrip.observe($1) }
    peerMetrics.snapshotSendBegan = { network.snapshotSendInflights.series($0.hex).add(1) }
    peerMetrics.snapshotReceiveBegan = { network.snapshotReceiveInflights.series($0.hex).add(1) }
    peerMetrics.snapshotSynced = { disk.snapDBFsync.observe($0) }
    peerMetrics.snapshotSendEnded = { member, succeeded, seconds in
      network.snapshotSendInflights.series(member.hex).add(-1)
      (succeeded ? network.snapshotSendSuccess : network.snapshotSendFailures)
        .series(member.hex).increment()
      network.snapshotSendDuration.series(member.hex).observe(seconds)
    }
    peerMetrics.snapshotReceiveEnded = { member, succeeded, seconds in
      network.snapshotReceiveInflights.series(member.hex).add(-1)
      if succeeded { disk.snapDBSaveTotal.observe(seconds) }
      (succeeded ? network.snapshotReceiveSuccess : network.snapshotReceiveFailures)
        .series(member.hex).increment()
      network.snapshotReceiveDuration.series(member.hex).observe(seconds)
    }
    return peerMetrics
  }
}
