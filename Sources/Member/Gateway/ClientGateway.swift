import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor
import TLS

/// What reaches the gateway from the rest of the member.
enum GatewayInput: Sendable {
  case replies([StoreReply])
  case watch([(stream: UInt64, messages: FramedMessages)], WatchDeliveryCounts)
  case part(id: UInt64, message: Bytes)
  case reads([RaftCore.ReadState])
  case softState(RaftCore.SoftState)
  case proposalsDropped([UInt64], RaftCore.DropReason)
  /// A write is applied, what it reads takes as long as it takes.
  case deferred(id: UInt64)
  case exported(id: UInt64, Result<String, BackendError>)
  case chunks(id: UInt64, [Bytes], isLast: Bool)
  /// An answer's JSON, written on another thread; nil if it has none.
  case encodedJSON(id: UInt64, Bytes?)
  case peerResponse(id: UInt64, status: Int?, body: Bytes)
  /// A read that another member asks for.
  case forwarded(ForwardedRead)
  /// The promotion of a learner that another member asks the leader for.
  case promote(request: UInt64, MemberID)
  case linkChanged(MemberID, isActive: Bool)
  /// The NOSPACE alarm was raised, or could not be.
  case spaceAlarmSettled
  /// Users, roles or tokens are others than before.
  case authChanged
  /// A worker has done the job `id`.
  case worked(id: UInt64, worker: Int, PasswordResult)
  /// Whether a member of etcd 3.5.0 to 3.5.2 is there, which counts tokens in its own way.
  case earlyTokens(Bool)
  case propose(
    InternalRequestEnvelope.Kind, Bytes, @Sendable (StoreReply.Outcome) -> Void)
  case proposeLegacy(LegacyRequest, @Sendable (StoreReply.Outcome) -> Void)
  /// A read for the member itself.
  case read(StoreRead.Kind, linearizable: Bool, @Sendable (StoreReply.Outcome) -> Void)
  /// One heartbeat interval has passed.
  case tick
  /// The member has joined: start to serve.
  case serve
  case shutdown
}

/// A read on behalf of another member.
struct ForwardedRead: Sendable {
  var request: UInt64
  var read: StoreRead.Kind
  var demand: Demand

  enum Demand {
    /// Only a leader may answer: leases.
    case leadership
    case linearizability
    /// What this member has now.
    case nothing
  }
}

/// What the gateway needs of the rest of the member.
struct GatewayOutlets: Sendable {
  var raft: Inbox<RaftInput>
  var store: Inbox<StoreInput>
  var raftStatus: @Sendable () -> RaftCore.Status
  var storeStatus: @Sendable () -> StoreStatus
  /// Posts to the leader's peer port; answered by `peerResponse`.
  var postToPeer: @Sendable (_ id: UInt64, MemberID, _ path: String, Bytes, [HTTPField]) -> Void
  var answerForwarded: @Sendable (UInt64, StoreReply.Outcome) -> Void
  /// Reads a snapshot file piece by piece off the loop; answered by `chunks`.
  var streamer: Inbox<StreamerInput>
  /// This member's quota does not allow a request; answered by `spaceAlarmSettled`.
  var quotaExceeded: @Sendable () -> Void
  var connectionsIdle: @Sendable () -> Void
  /// Runs what would hold up the loop on another thread, in order.
  var aside: @Sendable (@escaping @Sendable () -> Void) -> Void
}

/// The actor in front of clients: HTTP/2 and gRPC, HTTP/1.1, request checks, batching, replies.
///
/// Lives on the loop. What arrives in one turn leaves in one batch to Raft and one to the store; what
/// is answered in one turn leaves with one write per connection.
actor ClientGateway {
  static let inboxLimit = 1 << 20
  /// Writes that may wait for their entry to be applied, and their bytes.
  static let pendingWritesMax = 200_000
  static let pendingBytesMax = 512 << 20
  /// Bytes queued on a watch stream at which its watchers have to wait.
  static let watchQueueBytesMax = 4 << 20
  /// Keepalives of one stream that may wait before the next are not read.
  static let keepAlivesQueuedMax = 1000
  /// What a connection without a request is given, nanoseconds, when there are too many.
  private static let idleBeforeEviction: UInt64 = 5 * 1_000_000_000
  /// Connections that may wait for the member to join.
  static let earlyConnectionsMax = 1024
  /// Brief reads of one turn that are answered on the loop's thread if the store's sleeps.
  static let readsServedHereMax = 4
  /// So many connections are answered before what they are sent is written: while their memory is still
  /// in the processor's caches.
  private static let connectionsBetweenFlushes = 64

  nonisolated let executor: EventLoop
  nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  nonisolated let inbox: Inbox<GatewayInput>
  let settings: GatewaySettings
  let outlets: GatewayOutlets
  let metrics: MemberMetrics
  let log: EtcdLogger
  let sessionConfiguration: GRPCServerConfiguration
  let requestTimes: RequestTimes
  /// Nanoseconds below which no call is worth a line.
  let slowCallMin: UInt64

  private var listeners: [Listener] = []
  private var connections: [UInt64: ClientConnection] = [:]
  private var touched: [ClientConnection] = []
  private var nextConnection: UInt64 = 1
  /// Connections accepted before the member has joined; they are read from then on.
  private var early: [ClientConnection] = []
  /// The tick in which idle connections were last closed for want of room.
  private var evictedAt = -1
  private(set) var isServing = false
  private(set) var isShuttingDown = false

  var ids: RequestIDGenerator
  var waiters = WaiterTable()
  var reads: ReadCoordinator
  /// When this member became leader, if it is.
  var electedAt: UInt64?
  var proposals: (ids: [UInt64], payloads: [Bytes]) = ([], [])
  var storeReads: [StoreRead] = []
  var leaseReads: [StoreRead] = []
  var watchCommands: [WatchCommand] = []
  var watchStreams: [UInt64: WatchStream] = [:]
  var keepAlives: [UInt64: KeepAliveStream] = [:]
  var concurrency = ConcurrencyTable()
  /// Calls whose answers are being written in JSON on another thread, and the size of each.
  var jsonCalls: [UInt64: (call: JSONCall, messageBytes: Int)] = [:]
  var reconfiguration = ReconfigurationTable()
  var transfers: [(target: MemberID, call: CallHandle, deadline: UInt64)] = []
  var alarmWaiters: [CallHandle] = []
  let auth: GatewayAuth
  var authenticator: Authenticator
  var parked: [ParkedRequest] = []
  var passwordQueue: PasswordQueue<PasswordJob>
  var passwordJobs: [UInt64: (PasswordResult) -> Void] = [:]
  var passwordChecks: [PasswordCheck: [(Bool) -> Void]] = [:]
  var hasEarlyTokens = false
  var ticks = 0
  var stall: StallGuard
  var applyLag = ApplyLag()
  var leaderlessTicks = 0
  /// Monotonic nanoseconds: when what is being handled arrived on the loop. The clock is not read for
  /// each of a thousand calls that came together.
  private(set) var turnBegan: UInt64
  /// As of this turn's beginning; cheap to ask per request.
  var raftStatus: RaftCore.Status
  var storeStatus: StoreStatus
  var softState = RaftCore.SoftState(role: .follower, leader: 0, term: 0)

  init(
    settings: GatewaySettings, inbox: Inbox<GatewayInput>, executor: EventLoop,
    outlets: GatewayOutlets, auth: GatewayAuth, metrics: MemberMetrics, log: EtcdLogger,
    unixMilliseconds: UInt64
  ) {
    self.settings = settings
    self.inbox = inbox
    self.executor = executor
    self.outlets = outlets
    self.auth = auth
    authenticator = Authenticator(auth)
    passwordQueue = PasswordQueue(
      workers: auth.workers.threads.count, limit: PasswordWorkers.queueLimit)
    self.metrics = metrics
    self.log = log
    turnBegan = executor.now
    requestTimes = RequestTimes(metrics.server)
    slowCallMin = min(settings.slowRequest, settings.slowApply)
    ids = RequestIDGenerator(member: settings.member, unixMilliseconds: unixMilliseconds)
    stall = StallGuard(tickInterval: settings.tickInterval)
    reads = ReadCoordinator(giveUpAfter: settings.requestTimeout)
    raftStatus = outlets.raftStatus()
    storeStatus = outlets.storeStatus()
    var session = GRPCServerConfiguration()
    session.receiveMessageBytesMax = settings.maxRequestBytes + (512 << 10)
    session.concurrentStreamsMax = settings.maxConcurrentStreams
    session.pingIntervalMin = settings.keepaliveMinTime
    session.enforcesPingPolicy = settings.keepaliveMinTime > 0
    session.keepaliveInterval = settings.keepaliveInterval
    session.keepaliveTimeout = settings.keepaliveTimeout
    session.streamWindowBytes = max(1 << 20, session.receiveMessageBytesMax + (1 << 16))
    session.acceptsHTTP = true
    session.routes = GatewayMethod.routes
    session.receiveBudget = ReceiveBudget(limitBytes: Self.pendingBytesMax)
    sessionConfiguration = session
  }

  /// Connects the gateway to the member. Before or on the loop.
  nonisolated func start() {
    executor.execute { [self] in
      assumeIsolated { $0.watchTurns() }
    }
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { $0.receive(&batch) }
    }
  }

  private func watchTurns() {
    executor.onTurnEnd { self.turnEnds() }
  }

  /// Binds addresses of clients. Loop thread. Connections are accepted at once and served once the
  /// member has joined.
  func listen(
    on addresses: [SecuredAddress], for protocols: ClientEntrance.Protocols, reusePort: Bool
  ) throws(ListenError) {
    for address in addresses {
      let entrance = entrance(for: protocols, at: address.address, handlers)
      let listener = try Listener.listen(
        on: address.address, loop: executor, options: .init(reusePort: reusePort),
        security: address.security
      ) { stream in
        self.accept(stream, entrance, servesEarly: false)
      }
      listeners.append(listener)
    }
  }

  /// Binds the addresses that serve `/metrics`, `/health`, `/livez` and `/readyz` only, from the start
  /// on. Loop thread.
  func listenForMetrics(on addresses: [SecuredAddress]) throws(ListenError) {
    var handlers = handlers
    handlers.request = { exchange in self.metricsRequest(exchange) }
    handlers.acceptsWebSocket = { _ in false }
    handlers.commonHeaders = { _ in [] }
    for address in addresses {
      let entrance = entrance(for: .http, at: address.address, handlers)
      listeners.append(
        try Listener.listen(
          on: address.address, loop: executor, security: address.security
        ) { stream in
          self.accept(stream, entrance, servesEarly: true)
        })
    }
  }

  private func entrance(
    for protocols: ClientEntrance.Protocols, at address: StreamAddress,
    _ handlers: ClientEntrance.Handlers
  ) -> ClientEntrance {
    var handlers = handlers
    var configuration = sessionConfiguration
    configuration.acceptsHTTP = protocols != .grpc
    // Go's clients name the path of the socket where the name of a host should stand.
    if case .unix = address { configuration.acceptsAnyAuthority = true }
    if protocols == .http {
      handlers.called = { call, _ in call.finish(GatewayMethod.unknown(path: call.path)) }
    }
    return ClientEntrance(
      protocols: protocols, handlers: handlers, sessions: GRPCServerContext(configuration))
  }

  private func receive(_ batch: inout ContiguousArray<GatewayInput>) {
    turnBegan = executor.now
    refreshStatus()
    for input in batch { handle(input) }
  }

  func refreshStatus() {
    raftStatus = outlets.raftStatus()
    storeStatus = outlets.storeStatus()
  }

  private func handle(_ input: GatewayInput) {
    switch input {
    case .replies(let replies):
      for reply in replies {
        answer(reply)
        if touched.count >= Self.connectionsBetweenFlushes { flushTouched() }
      }
    case .watch(let deliveries, let counts): deliver(deliveries, counts)
    case .part(let id, let message): sendPart(id, message)
    case .reads(let states): for state in states { confirmed(state) }
    case .softState(let state): softStateChanged(state)
    case .proposalsDropped(let ids, let reason): proposalsDropped(ids, reason)
    case .deferred(let id): deferred(id)
    case .exported(let id, let result): snapshotExported(id, result)
    case .chunks(let id, let chunks, let isLast): sendChunks(id, chunks, isLast: isLast)
    case .encodedJSON(let id, let json): encodedJSON(id: id, json)
    case .peerResponse(let id, let status, let body): peerAnswered(id, status, body)
    case .forwarded(let request): serveForwarded(request)
    case .promote(let request, let member): promoteForPeer(request, member)
    case .linkChanged(let member, let isActive):
      reconfiguration.links.changed(member, isActive: isActive, now: executor.now)
    case .spaceAlarmSettled: spaceAlarmSettled()
    case .authChanged: retryParked(now: executor.now)
    case .worked(let id, let worker, let result): worked(id, worker, result)
    case .earlyTokens(let areThere): hasEarlyTokens = areThere
    case .propose(let kind, let payload, let done): proposeOwn(kind, payload, done)
    case .proposeLegacy(let request, let done): proposeLegacy(request, done)
    case .read(let kind, let linearizable, let done):
      if linearizable { readLinearizable(kind, .own(done)) } else { readNow(kind, .own(done)) }
    case .tick: tick()
    case .serve: serve()
    case .shutdown: shutdown()
    }
  }

  // MARK: - Turns

  /// Sends on what has collected in this turn.
  private func turnEnds() {
    if !proposals.ids.isEmpty {
      outlets.raft.send(.propose(ids: proposals.ids, payloads: proposals.payloads))
      proposals = ([], [])
    }
    if reads.wantsRound {
      let id = ids.next()
      reads.begin(id: id, now: executor.now)
      outlets.raft.send(.readIndex(id: id))
    }
    if !storeReads.isEmpty {
      read(storeReads, atLeast: 0)
      storeReads = []
    }
    if !leaseReads.isEmpty {
      // A lease that was granted through another member is known here once all that is committed
      // is applied.
      outlets.store.send(.read(leaseReads, atLeast: raftStatus.commit))
      leaseReads = []
    }
    sendWatchCommands()
    flushTouched()
    // Those with more to send than a turn allows go on in the next one.
    if !touched.isEmpty { executor.execute {} }
    // Flushing lets watch streams take events again, which the store should hear at once.
    sendWatchCommands()
  }

  private func flushTouched() {
    var flushed: [ClientConnection] = []
    swap(&flushed, &touched)
    for connection in flushed { connection.flush() }
  }

  private func sendWatchCommands() {
    guard !watchCommands.isEmpty else { return }
    outlets.store.send(.watch(watchCommands))
    watchCommands = []
  }

  private func tick() {
    ticks += 1
    let now = executor.now
    stall.tick(now: now, id: ids.next())
    applyLag.tick(now: now, commit: raftStatus.commit, applied: storeStatus.applied)
    waiters.expired(now: now).forEach { expire($0) }
    // Clients watch their deadlines themselves; this is for those that do not.
    if ticks % 5 == 0 { waiters.overdue(now: now).forEach { endOverdue($0.id, $0.entry) } }
    endOverdueWatches(now: now)
    if reads.wantsRetry(now: now, leaderChanged: false) { retrySlowRead(now: now) }
    let expired = reads.expired(now: now)
    if !expired.isEmpty { metrics.server.readIndexesFailed.increment() }
    for read in expired {
      fail(read.id, timeoutCause.error(startedAt: now - settings.requestTimeout))
    }
    leaderlessTicks = softState.leader == 0 ? leaderlessTicks + 1 : 0
    if leaderlessTicks >= 3 * settings.electionTicks { endLeaderlessStreams() }
    finishTransfers(now: now)
    tickReconfiguration(now: now)
    retryKeepAlives(now: now)
    tickConcurrency(now: now)
    retryParked(now: now)
    if ticks % 10 == 0 { auth.tokens.change { $0.expire(now: now) } }
    if ticks % 10 == 0 { for connection in connections.values { connection.tick(now: now) } }
    updateMetrics()
  }

  private func retrySlowRead(now: UInt64) {
    metrics.server.slowReadIndexes.increment()
    askAgain(now: now)
    log.warn(
      "waiting for ReadIndex response took too long, retrying",
      ("sent-request-id", reads.lastID), ("retry-timeout", Duration.milliseconds(500)))
  }

  func askAgain(now: UInt64) {
    let id = ids.next()
    reads.retry(id: id, now: now)
    outlets.raft.send(.readIndex(id: id))
  }

  // MARK: - Connections

  /// - Parameter servesEarly: whether the connection is read before the member has joined.
  private func accept(_ stream: StreamConnection, _ entrance: ClientEntrance, servesEarly: Bool) {
    guard !isShuttingDown, hasRoom() else { return stream.close() }
    let connection = ClientConnection(
      id: nextConnection, stream: stream, entrance: entrance, now: executor.now)
    nextConnection += 1
    if auth.usesCertificateNames {
      connection.certificateCommonName = stream.verifiedCertificate?.commonName
    }
    connections[connection.id] = connection
    stream.onWritable = { connection.becameWritable() }
    guard !isServing, !servesEarly else { return read(from: connection) }
    early.append(connection)
    // Nobody reads these yet, so nobody notices when their clients give up.
    if early.count > Self.earlyConnectionsMax { early.removeFirst().close() }
  }

  /// Whether another connection may be served. When there are too many, those go first that have been
  /// without a request for longest; once per tick, since finding them costs.
  private func hasRoom() -> Bool {
    guard connections.count >= settings.connectionsMax else { return true }
    guard evictedAt != ticks else { return false }
    evictedAt = ticks
    let now = executor.now
    let idle = connections.values.compactMap { connection in
      connection.idleSince.flatMap {
        $0 + Self.idleBeforeEviction < now ? (since: $0, connection) : nil
      }
    }
    let surplus = max(1, settings.connectionsMax / 32)
    for (_, connection) in idle.sorted(by: { ($0.since, $0.1.id) < ($1.since, $1.1.id) })
      .prefix(surplus)
    {
      connection.close()
    }
    log.warn(
      "too many client connections; closing idle ones", ("limit", settings.connectionsMax),
      ("closed", min(surplus, idle.count)))
    return connections.count < settings.connectionsMax
  }

  private func read(from connection: ClientConnection) {
    connection.stream.startReading(
      onBytes: { bytes in
        self.metrics.network.clientReceivedBytes.increment(by: UInt64(bytes.count))
        self.turnBegan = self.executor.now
        connection.receive(bytes, now: self.turnBegan)
      },
      onEnd: { _ in connection.close() })
  }

  private var handlers: ClientEntrance.Handlers {
    ClientEntrance.Handlers(
      called: { call, connection in self.started(call, on: connection) },
      received: { call, message in self.received(call, message) },
      halfClosed: { call in self.halfClosed(call) },
      cancelled: { call in self.cancelled(call) },
      writable: { call in self.writable(call) },
      request: { exchange in self.request(exchange) },
      acceptsWebSocket: { head in
        self.settings.http.servesGateway && head.path.hasPrefix("/v3/")
      },
      commonHeaders: { headers in self.commonHeaders(headers) },
      touched: { connection in self.touched.append(connection) },
      closed: { connection in self.closed(connection) })
  }

  private func closed(_ connection: ClientConnection) {
    connections[connection.id] = nil
    if isShuttingDown, connections.isEmpty { outlets.connectionsIdle() }
  }

  private func serve() {
    guard !isServing else { return }
    isServing = true
    let waiting = early
    early = []
    for connection in waiting { read(from: connection) }
  }

  /// Takes no more connections and calls; calls that are running may finish, streams are ended.
  private func shutdown() {
    guard !isShuttingDown else { return }
    isShuttingDown = true
    for listener in listeners { listener.close() }
    listeners = []
    for id in watchStreams.keys.sorted() { endWatch(id, GRPCStatus(.stopped)) }
    for id in keepAlives.keys.sorted() { endKeepAlive(id, .stopped) }
    shutDownConcurrency()
    for connection in connections.values { connection.shutdown(now: executor.now) }
    if connections.isEmpty { outlets.connectionsIdle() }
  }

  var connectionCount: Int { connections.count }
}

/// What of the configuration concerns clients. Times are nanoseconds.
struct GatewaySettings: Sendable {
  var member: MemberID
  var cluster: ClusterID
  var maxRequestBytes: Int
  var maxTxnOps: Int
  var maxConcurrentStreams: Int?
  var quotaBytes: Int64?
  /// What Status reports: the quota as configured, or etcd's default.
  var reportedQuota: Int64
  var requestTimeout: UInt64
  var electionTicks: Int
  var tickInterval: UInt64
  var strictReconfigCheck: Bool
  var keepaliveMinTime: UInt64
  var keepaliveInterval: UInt64
  var keepaliveTimeout: UInt64
  var slowRequest: UInt64
  var slowApply: UInt64
  /// Client connections open at a time.
  var connectionsMax: Int
  var http: HTTPSettings
}
