public import Actors
import TLS

/// The certificates of a member's ports, and of its connections to other members.
struct MemberSecurity: Sendable {
  private let configuration: MemberConfiguration
  private let log: EtcdLogger
  /// Nil: no URL of this kind needs one.
  private let clients: TLSContextSource?
  private let peers: TLSContextSource?
  let dialing: TLSContextSource

  /// Reads all files that will be needed, and makes the certificates that are to be made: a mistake
  /// is found before the member has told anybody that it is there.
  /// - Throws: `TLSError` in etcd's words.
  init(configuration: MemberConfiguration, log: EtcdLogger) throws {
    self.configuration = configuration
    self.log = log
    let clientURLs =
      configuration.listenClientURLs + configuration.listenClientHTTPURLs
      + configuration.listenMetricsURLs
    let clientFiles = Self.selfSigned(
      configuration.clientSecurity, "client", configuration.listenClientURLs, configuration)
    let peerFiles = Self.selfSigned(
      configuration.peerSecurity, "peer", configuration.listenPeerURLs, configuration)
    var clients = Self.serving(configuration.clientSecurity, clientFiles)
    // Whoever is not asked for a protocol speaks HTTP/1.1.
    clients.protocols = ["h2"]
    self.clients =
      clientURLs.contains(where: \.usesTLS)
      ? TLSContextSource(.server, clients, selfSigned: clientFiles) : nil
    self.peers =
      configuration.listenPeerURLs.contains(where: \.usesTLS)
      ? TLSContextSource(
        .server, Self.serving(configuration.peerSecurity, peerFiles), selfSigned: peerFiles)
      : nil
    dialing = TLSContextSource(
      .client, Self.dialing(configuration.peerSecurity, peerFiles), selfSigned: peerFiles)
    for files in [clientFiles, peerFiles] {
      if let files, try files.renewIfDue() {
        log.info("automatically generate certificates", ("directory", files.directory))
      }
    }
    _ = try self.clients?.current()
    _ = try peers?.current()
    // Roots of the system are not looked at for nothing.
    if !configuration.peerSecurity.isEmpty || peers != nil { _ = try dialing.current() }
  }

  private static func selfSigned(
    _ security: TransportSecurity, _ name: String, _ urls: [EtcdURL],
    _ configuration: MemberConfiguration
  ) -> SelfSignedFiles? {
    guard security.isAutomatic else { return nil }
    return SelfSignedFiles(
      directory: configuration.dataDirectory + "/fixtures/" + name,
      hosts: urls.map(\.host).filter { !$0.isEmpty }, years: configuration.selfSignedYears)
  }

  private static func serving(
    _ security: TransportSecurity, _ files: SelfSignedFiles?
  ) -> TLSSettings {
    var settings = shared(security, files)
    settings.verifiesPeer = security.verifiesClients
    settings.revocationFile = security.revocationFile
    return settings
  }

  private static func dialing(
    _ security: TransportSecurity, _ files: SelfSignedFiles?
  ) -> TLSSettings {
    var settings = shared(security, files)
    if !security.dialCertificateFile.isEmpty {
      settings.certificateFile = security.dialCertificateFile
      settings.keyFile = security.dialKeyFile
    }
    settings.serverName = security.dialServerName
    // Nobody vouches for certificates that members have made for themselves.
    settings.verifiesPeer = files == nil
    return settings
  }

  private static func shared(
    _ security: TransportSecurity, _ files: SelfSignedFiles?
  ) -> TLSSettings {
    var settings = TLSSettings()
    settings.certificateFile = files?.certificateFile ?? security.certificateFile
    settings.keyFile = files?.keyFile ?? security.keyFile
    settings.trustedCAFile = security.trustedCAFile
    settings.allowedCommonNames = security.allowedCommonNames
    settings.allowedHostNames = security.allowedHostNames
    settings.cipherSuites = security.cipherSuites
    settings.minVersion = security.minVersion
    settings.maxVersion = security.maxVersion
    return settings
  }

  // MARK: Listeners

  /// Addresses to listen on, those that need TLS with what connections go through. Loop thread.
  func clientListeners(_ urls: [EtcdURL], loop: EventLoop) -> [SecuredAddress] {
    secured(urls, clients, "client", checksAddress: false, loop)
  }

  /// As ``clientListeners(_:loop:)``; certificates have to belong to the address of their owner.
  func metricsListeners(_ urls: [EtcdURL], loop: EventLoop) -> [SecuredAddress] {
    secured(urls, clients, "metrics", checksAddress: true, loop)
  }

  func peerListeners(loop: EventLoop) -> [SecuredAddress] {
    secured(
      configuration.listenPeerURLs, peers, "peer",
      checksAddress: !configuration.peerSecurity.skipsAddressCheck, loop)
  }

  private func secured(
    _ urls: [EtcdURL], _ source: TLSContextSource?, _ name: String, checksAddress: Bool,
    _ loop: EventLoop
  ) -> [SecuredAddress] {
    let rejections = RejectionLog(endpoint: name, log: log, loop: loop)
    let acceptor = source.map { source in
      TLSAcceptor(source: source, loop: loop, checksAddress: checksAddress) {
        rejections.note($0)
      }
    }
    return urls.map {
      SecuredAddress(address: $0.listenAddress, security: $0.usesTLS ? acceptor : nil)
    }
  }
}

/// Where to listen, and what connections go through before they are served.
public struct SecuredAddress {
  public let address: StreamAddress
  public let security: (any StreamSecurity)?

  public init(address: StreamAddress, security: (any StreamSecurity)? = nil) {
    self.address = address
    self.security = security
  }
}

/// Says in the log who could not connect, at a bounded rate. Loop thread.
final class RejectionLog {
  private static let linesPerSecondMax = 20

  private let message: String
  private let log: EtcdLogger
  private let loop: EventLoop
  private var second: UInt64 = 0
  private var lines = 0
  private var suppressed = 0

  init(endpoint: String, log: EtcdLogger, loop: EventLoop) {
    message = "rejected connection on \(endpoint) endpoint"
    self.log = log
    self.loop = loop
  }

  func note(_ rejection: TLSRejection) {
    let now = loop.now / 1_000_000_000
    if now != second { (second, lines) = (now, 0) }
    lines += 1
    guard lines <= Self.linesPerSecondMax else {
      suppressed += 1
      return
    }
    var fields = [
      ("remote-addr", rejection.remoteAddress), ("server-name", rejection.serverName),
    ]
    if let certificate = rejection.certificate {
      fields.append(("ip-addresses", certificate.ipAddresses.joined(separator: ",")))
      fields.append(("dns-names", certificate.dnsNames.joined(separator: ",")))
    }
    fields.append(("error", rejection.error.description))
    if suppressed > 0 {
      fields.append(("not-logged-before", "\(suppressed)"))
      suppressed = 0
    }
    log.write(rejection.isQuiet ? .debug : .warn, message, fields)
  }
}
