import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor
import Synchronization

/// Raft, its log and its peers.
extension MemberWiring {
  func makeRaft() -> RaftNode {
    let core = RaftCore(
      configuration: RaftCore.Configuration(
        id: storage.member, electionTicks: configuration.electionTicks,
        preVote: configuration.preVote),
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

  func makeLogWriter(_ raft: RaftNode) -> LogWriter {
    let metrics = metrics
    let fatal = fatal
    let inbox = raft.inbox
    return LogWriter(
      log: storage.log.take(), segmentsKept: configuration.maxWALs,
      syncs: !configuration.unsafeNoFsync, executor: logThread,
      outlets: LogWriter.Outlets(
        persisted: { inbox.send(.persisted($0)) },
        failed: { fatal.end("\($0)") },
        synced: { metrics.disk.walFsync.observe(Double($0) / 1e9) },
        wrote: { metrics.disk.walWriteBytes.add(Int64($0)) }))
  }

  func connect(
    _ raft: RaftNode, _ logWriter: LogWriter, _ store: KVStore, _ peers: PeerTransport
  ) {
    let gateway = gatewayInbox
    let controller = controllerInbox
    let supervisor = supervisorInbox
    let storeInbox = store.inbox
    let logInbox = logWriter.inbox
    let log = log.named("raft")
    let directory = snapshotDirectory
    let fatal = fatal
    raft.start(
      RaftOutlets(
        write: { batch in
          if let index = batch.releaseThrough {
            log.info("saved snapshot", ("snapshot-index", index))
          }
          logInbox.send(batch)
        },
        send: { peers.submit(.send($0)) },
        apply: { storeInbox.send(.apply($0)) },
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
          let path = StorageLoader.receivedSnapshot(snapshot.metadata.index, in: directory)
          storeInbox.send(.install(snapshot, path: path))
        },
        failed: { fatal.end($0) }))
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
    peerMetrics.sentBytes = { network.peerSentBytes.series($0.hex).increment(by: UInt64($1)) }
    peerMetrics.receivedBytes = {
      network.peerReceivedBytes.series($0.hex).increment(by: UInt64($1))
    }
    peerMetrics.sendFailed = { network.peerSentFailures.series($0.hex).increment() }
    peerMetrics.receiveFailed = { network.peerReceivedFailures.series($0.hex).increment() }
    peerMetrics.roundTrip = { network.peerRoundTripTime.series($0.hex).observe($1) }
    peerMetrics.snapshotSendEnded = { member, succeeded, seconds in
      (succeeded ? network.snapshotSendSuccess : network.snapshotSendFailures)
        .series(member.hex).increment()
      network.snapshotSendDuration.series(member.hex).observe(seconds)
    }
    peerMetrics.snapshotReceiveEnded = { member, succeeded, seconds in
      (succeeded ? network.snapshotReceiveSuccess : network.snapshotReceiveFailures)
        .series(member.hex).increment()
      network.snapshotReceiveDuration.series(member.hex).observe(seconds)
    }
    return peerMetrics
  }
}
