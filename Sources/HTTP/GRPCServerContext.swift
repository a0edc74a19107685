/// What the server sessions of one thread share: their configuration, and memory that none of them
/// needs beyond one call.
///
/// With thousands of connections every line of memory that belongs to one of them alone has left the
/// processor's caches by the time its next request comes.
public final class GRPCServerContext {
  public let configuration: GRPCServerConfiguration
  /// The header block of the session that is receiving.
  @exclusivity(unchecked) var incoming = IncomingHeaders()
  /// The fields of a recent request: most clients send the same.
  @exclusivity(unchecked) private var recentFields = HeaderFields()
  private let routes: [[UInt8]]

  public init(_ configuration: GRPCServerConfiguration) {
    self.configuration = configuration
    routes = configuration.routes.map { Array($0.utf8) }
  }

  /// Takes away a block whose rest will come later, so that other sessions may receive meanwhile.
  func suspend() -> IncomingHeaders {
    var block = IncomingHeaders()
    swap(&block, &incoming)
    return block
  }

  /// Goes on with such a block.
  func resume(_ block: inout IncomingHeaders?) {
    guard let rest = block.take() else { return }
    incoming = rest
  }

  /// The fields of the block, in memory that is shared with other requests if they sent the same.
  func sharedFields() -> HeaderFields {
    if incoming.fields != recentFields { recentFields = incoming.fields }
    return recentFields
  }

  /// Whether the path of the block is that of the configuration's route `index`.
  func isRoute(_ index: Int) -> Bool { index < routes.count && routes[index] == incoming.path }

  /// The index of the block's path in the configuration's routes.
  func findRoute() -> Int? { routes.firstIndex { $0 == incoming.path } }
}
