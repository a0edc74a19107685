// A client with the settings of the command line, and the form of the output.

import EtcdAPI
import EtcdClient
import SwiftProtobuf
import TLS

struct Session: Sendable {
  let client: EtcdClient
  let endpoints: [Endpoint]
  let format: OutputFormat
  let isHex: Bool
  let console: Console
  /// The time limit of a call.
  let commandTimeout: Duration
  /// `--command-timeout` or its variable was given.
  let hasExplicitTimeout: Bool

  init(
    flags: FlagValues, console: Console, trimsEndpoints: Bool, identity: ClientIdentity? = nil
  ) throws(CommandFailure) {
    guard let format = OutputFormat(rawValue: flags.string("write-out")) else {
      throw CommandFailure(CommandFailure.Code.badFeature, "unsupported output format")
    }
    self.format = format
    self.console = console
    isHex = flags.bool("hex")
    commandTimeout = flags.duration("command-timeout")
    hasExplicitTimeout = flags.isSet("command-timeout")
    var options = try Self.options(flags)
    options.identity = identity
    let texts = flags.list("endpoints").map { trimsEndpoints ? Self.trim($0) : $0 }
    do throws(EtcdClientError) {
      var endpoints: [Endpoint] = []
      for text in texts { endpoints.append(try Endpoint(text)) }
      self.endpoints = endpoints
      client = try EtcdClient(endpoints: endpoints, options: options)
    } catch {
      throw CommandFailure(CommandFailure.Code.badConnection, error.description)
    }
  }

  private static func options(_ flags: FlagValues) throws(CommandFailure) -> EtcdClientOptions {
    var options = EtcdClientOptions()
    options.requestTimeout = flags.duration("command-timeout")
    options.keepaliveInterval = flags.duration("keepalive-time")
    options.keepaliveTimeout = flags.duration("keepalive-timeout")
    options.userAgent = "apusctl"
    options.tls = try tls(flags)
    let sent = flags.int64("max-request-bytes")
    let received = flags.int64("max-recv-bytes")
    if sent > 0 { options.sendMessageBytesMax = Int(sent) }
    if received > 0 {
      guard received >= options.sendMessageBytesMax else {
        throw CommandFailure(
          CommandFailure.Code.badConnection,
          "gRPC message recv limit (\(received) bytes) must be greater than send limit "
            + "(\(options.sendMessageBytesMax) bytes)")
      }
      options.receiveMessageBytesMax = Int(received)
    }
    return options
  }

  /// Certificates and roots as the flags name them; nil if none asks for TLS.
  private static func tls(_ flags: FlagValues) throws(CommandFailure) -> TLSContextSource? {
    let skipsVerification = flags.bool("insecure-skip-tls-verify")
    let files = ["cert", "key", "cacert"]
    guard
      !flags.bool("insecure-transport") || skipsVerification
        || files.contains(where: { !flags.string($0).isEmpty })
    else { return nil }
    var settings = EtcdClientOptions.tlsDefaults
    settings.certificateFile = flags.string("cert")
    settings.keyFile = flags.string("key")
    settings.trustedCAFile = flags.string("cacert")
    settings.verifiesPeer = !skipsVerification
    let source = TLSContextSource(.client, settings)
    do throws(TLSError) {
      _ = try source.current()
    } catch {
      throw .badArguments(error.description)
    }
    return source
  }

  private static func trim(_ text: String) -> String {
    String(decoding: WordSplitter.trim(Array(text.utf8)), as: UTF8.self)
  }

  // MARK: Output

  /// The failure of a command that does not know the wanted form.
  var unsupported: CommandFailure {
    CommandFailure(
      CommandFailure.Code.badFeature, "\(format.rawValue) not supported as output format")
  }

  /// Prints one response in the wanted form. Tables, where they exist, are the caller's.
  ///
  /// - Parameter protobuf: the message whose bytes stand for the response; nil if there is none.
  func show(
    simple: (inout SimplePrinter) -> Void, json: () -> String,
    fields: ((inout FieldsPrinter) -> Void)?, protobuf: (any Message)?
  ) throws(CommandFailure) {
    switch format {
    case .simple:
      var printer = SimplePrinter(isHex: isHex)
      simple(&printer)
      console.write(printer.bytes)
    case .json: console.print(json())
    case .fields:
      guard let fields else { throw unsupported }
      var printer = FieldsPrinter(hexIDs: isHex)
      fields(&printer)
      console.write(printer.bytes)
    case .protobuf:
      guard let protobuf, let bytes: [UInt8] = try? protobuf.serializedBytes() else {
        throw unsupported
      }
      console.write(bytes)
    case .table: throw unsupported
    }
  }
}
