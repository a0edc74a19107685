public import Actors

/// The client's side: shakes hands with one server. Loop thread only.
public final class TLSDialer: StreamSecurity {
  private let source: TLSContextSource
  private let serverName: String
  private let errorPrefix: String
  private let scratch: TLSScratch

  /// - Parameters:
  ///   - serverName: the host that is dialled, an address or a name; the source's settings may
  ///     ask for another one.
  ///   - errorPrefix: what errors begin with.
  ///   - scratch: shared with other dialers of the same loop.
  public init(
    source: TLSContextSource, serverName: String, errorPrefix: String = "",
    scratch: TLSScratch = TLSScratch()
  ) {
    self.source = source
    self.serverName = source.settings.serverName.isEmpty ? serverName : source.settings.serverName
    self.errorPrefix = errorPrefix
    self.scratch = scratch
  }

  public func secure(
    _ connection: StreamConnection, completion: @escaping (StreamError?) -> Void
  ) {
    do throws(TLSError) {
      let engine = try TLSEngine(try source.current(), serverName: serverName)
      let stream = TLSStream(
        engine: engine, connection: connection, scratch: scratch, queue: nil
      ) { [errorPrefix] error in
        if error != nil { connection.closeWhenFlushed() }
        completion(error.map { StreamError(errorPrefix + Self.text($0)) })
      }
      stream.start()
    } catch {
      connection.close()
      let failure = StreamError(errorPrefix + error.description)
      LoopTimer(loop: connection.loop) { completion(failure) }.schedule(afterMilliseconds: 0)
    }
  }

  private static func text(_ error: TLSError) -> String {
    error.description == "EOF" ? "tls: handshake: EOF" : error.description
  }
}
