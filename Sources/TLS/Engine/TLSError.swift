import COpenSSL

/// Why there is no TLS connection, in the words of Go's library where it has any: operators search
/// for those.
public struct TLSError: Error, Sendable, Equatable, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }

  /// The other end has closed before it said goodbye: what came so far may not be all.
  static let truncated = TLSError("unexpected EOF")

  static let noCertificate = TLSError("tls: client didn't provide a certificate")

  /// What the library's error queue of this thread holds, which is emptied.
  ///
  /// - Parameter fallback: the text if the queue is empty.
  static func fromQueue(_ fallback: String) -> TLSError {
    let code = ERR_peek_last_error()
    ERR_clear_error()
    guard code != 0 else { return TLSError(fallback) }
    let reason = ERR_GET_REASON(code)
    if ERR_GET_LIB(code) == ERR_LIB_SSL, let text = text(ofReason: reason) {
      return TLSError(text)
    }
    guard let words = ERR_reason_error_string(code) else {
      return TLSError("\(fallback) (error \(code))")
    }
    return TLSError("tls: \(String(cString: words))")
  }

  private static func text(ofReason reason: Int32) -> String? {
    // Reasons from here on are alerts that the other end has sent.
    if reason >= SSL_AD_REASON_OFFSET {
      return "remote error: tls: " + text(ofAlert: reason - SSL_AD_REASON_OFFSET)
    }
    switch reason {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return noCertificate.description
    case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST, SSL_R_WRONG_VERSION_NUMBER,
      SSL_R_UNKNOWN_PROTOCOL, SSL_R_RECORD_LENGTH_MISMATCH, SSL_R_PACKET_LENGTH_TOO_LONG,
      SSL_R_BAD_RECORD_TYPE:
      return "tls: first record does not look like a TLS handshake"
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_VERSION_TOO_HIGH:
      return "tls: no supported versions satisfy MinVersion and MaxVersion"
    case SSL_R_NO_SHARED_CIPHER:
      return "tls: no cipher suite supported by both client and server"
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return "tls: client requested unsupported application protocols"
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC: return "local error: tls: bad record MAC"
    case SSL_R_UNEXPECTED_MESSAGE: return "local error: tls: unexpected message"
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return "unexpected EOF"
    default: return nil
    }
  }

  private static func text(ofAlert alert: Int32) -> String {
    switch alert {
    case 0: "close notify"
    case 10: "unexpected message"
    case 20: "bad record MAC"
    case 22: "record overflow"
    case 40: "handshake failure"
    case 42: "bad certificate"
    case 43: "unsupported certificate"
    case 44: "revoked certificate"
    case 45: "expired certificate"
    case 46: "unknown certificate"
    case 47: "illegal parameter"
    case 48: "unknown certificate authority"
    case 49: "access denied"
    case 50: "error decoding message"
    case 51: "error decrypting message"
    case 70: "protocol version not supported"
    case 71: "insufficient security level"
    case 80: "internal error"
    case 86: "inappropriate fallback"
    case 90: "user canceled"
    case 100: "no renegotiation"
    case 109: "missing extension"
    case 110: "unsupported extension"
    case 112: "unrecognized name"
    case 116: "certificate required"
    case 120: "no application protocol"
    default: "alert(\(alert))"
    }
  }
}
