// What may stand between a socket and the owner of its connection: TLS, in practice.

/// Turns the bytes of a socket into those of a ``StreamConnection``'s owner, and back.
///
/// Everything is called on the loop.
public protocol StreamFilter: AnyObject {
  /// Bytes from the socket, valid during the call. What they mean for the owner is given to
  /// ``StreamConnection/deliver(_:)``.
  func socketDidRead(_ bytes: UnsafeRawBufferPointer)
  /// The socket gives no more: nil at its regular end. To be followed by
  /// ``StreamConnection/endReading(_:)``.
  func socketDidEnd(_ error: StreamError?)
  /// The owner takes bytes again: what is held back may be delivered, though not within this call.
  func ownerReads()
  /// Bytes of the owner. What they become is given to ``StreamConnection/send(_:)``.
  func ownerWrites(_ bytes: UnsafeRawBufferPointer)
  /// The owner will write no more; last words may still be sent.
  func ownerFinishes()
  /// The connection is closed. Called once.
  func didClose()
}

/// Makes connections secure before their owners get them. Loop thread only.
public protocol StreamSecurity: AnyObject {
  /// Installs a filter on a connection that nobody has read from, and has it shake hands.
  ///
  /// - Parameter completion: called once, never from within this call: nil when the connection is
  ///   ready for its owner, or why it is not; then it has been closed. Not called if somebody else
  ///   closes the connection first.
  func secure(_ connection: StreamConnection, completion: @escaping (StreamError?) -> Void)
}
