// How a command fails.

import EtcdClient

/// An exit code and what to say about it.
struct CommandFailure: Error, Equatable {
  /// etcdctl's exit codes.
  enum Code {
    static let error: Int32 = 1
    static let badConnection: Int32 = 2
    static let invalidInput: Int32 = 3
    static let badFeature: Int32 = 4
    static let interrupted: Int32 = 5
    static let badArguments: Int32 = 128
  }

  let code: Int32
  /// Printed after `Error: `; nil if all has been said.
  var message: String?
  /// Why there was no connection, where that is what a call waited for in vain.
  var connectionError: String?

  init(_ code: Int32, _ message: String?) {
    self.code = code
    self.message = message
  }

  /// A call failed.
  init(_ error: EtcdClientError, code: Int32 = Code.error) {
    self.init(code, error.description)
    connectionError = error.connectionError
  }

  static func badArguments(_ message: String) -> CommandFailure {
    CommandFailure(Code.badArguments, message)
  }
}

/// Turns the error of a call into the failure of a command.
func reporting<Value>(
  code: Int32 = CommandFailure.Code.error, prefix: String? = nil,
  _ body: () async throws(EtcdClientError) -> Value
) async throws(CommandFailure) -> Value {
  do throws(EtcdClientError) {
    return try await body()
  } catch {
    var failure = CommandFailure(error, code: code)
    if let prefix { failure.message = "\(prefix) (\(error))" }
    throw failure
  }
}
