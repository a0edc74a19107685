import Base
import EtcdAPI
import HTTP
import StoreActor

extension PeerServices {
  static let promotionPath = "/members/promote/"

  /// `POST /members/promote/<decimal id>`: a member asks its leader to make a learner a voter.
  func promote(_ request: PeerRequest) {
    let text = String(request.path.dropFirst(Self.promotionPath.count))
    guard let member = MemberID(text), text.utf8.first != UInt8(ascii: "+") else {
      return respond(request.id, 404, "member \(text) not found in cluster\n")
    }
    expect(.promotion, for: request.id)
    outlets.promote(request.id, member)
  }

  func promoted(_ id: UInt64) { respond(id, json: membersPage) }

  /// The texts are those by which etcd tells refusals apart.
  func refusePromotion(_ id: UInt64, _ error: EtcdError) {
    switch error {
    case .memberNotFound: respond(id, 404, "\(error.message)\n")
    case .memberNotLearner: respond(id, 412, "\(MembershipError.notLearner)\n")
    case .learnerNotReady: respond(id, 412, "\(error.message)\n")
    default:
      outlets.respond(
        id, 500, "application/json", Bytes(#"{"message":"Internal Server Error"}"#.utf8))
    }
  }
}
