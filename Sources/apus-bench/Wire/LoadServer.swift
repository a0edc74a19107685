// What the connections of one loop to one server share: ten thousand times the same would keep it
// out of the processor's caches.

import CNGHTTP2
import EtcdClient
import TLS

/// One server of a load, as seen from one loop.
final class LoadServer {
  let endpoint: Endpoint
  /// Nil for plain connections.
  let security: TLSDialer?
  /// Output of a connection on its way into the socket, for the time of one flush.
  var output: [UInt8] = []
  /// The header list of a request; its place 2 is the path.
  private var fields: [nghttp2_nv]
  /// What the header list refers to.
  private let ownedText: [UnsafeMutableBufferPointer<UInt8>]

  /// - Parameter token: goes with every call; nil for none.
  init(endpoint: Endpoint, security: TLSDialer?, token: String?) {
    self.endpoint = endpoint
    self.security = security
    let authority = LoadFields.copy(endpoint.authority)
    fields = [
      LoadFields.fixed(":method", "POST"),
      LoadFields.fixed(":scheme", security == nil ? "http" : "https"),
      LoadFields.fixed(":path", ""), LoadFields.field(":authority", authority),
      LoadFields.fixed("content-type", "application/grpc"), LoadFields.fixed("te", "trailers"),
    ]
    var ownedText = [authority]
    if let token {
      ownedText.append(LoadFields.copy(token))
      fields.append(LoadFields.field("token", ownedText[1]))
    }
    self.ownedText = ownedText
  }

  deinit {
    for text in ownedText { text.deallocate() }
  }

  /// Calls `body` with the headers of a request, which refer to memory of this server.
  func withFields<Result>(
    path: StaticString, _ body: (UnsafeBufferPointer<nghttp2_nv>) -> Result
  ) -> Result {
    fields[2].value = UnsafeMutablePointer(mutating: path.utf8Start)
    fields[2].valuelen = path.utf8CodeUnitCount
    return fields.withUnsafeBufferPointer(body)
  }
}
