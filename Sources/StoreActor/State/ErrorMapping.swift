public import EtcdAPI

// Which answer clients get for each refusal of the store: the one place where they are matched.

extension EtcdError {
  public init(_ error: KVError) {
    self =
      switch error {
      case .keyNotProvided: .keyNotProvided
      case .keyNotFound: .keyNotFound
      case .valueProvided: .valueProvided
      case .leaseProvided: .leaseProvided
      case .leaseNotFound: .leaseNotFound
      case .compacted: .compacted
      case .futureRevision: .futureRevision
      case .tooManyOps: .tooManyOperations
      case .duplicateKey: .duplicateKey
      case .invalidSortOption: .invalidSortOption
      }
  }

  public init(_ error: LeaseError) {
    self =
      switch error {
      case .notFound: .leaseNotFound
      case .exists: .leaseExists
      case .ttlTooLarge: .leaseTTLTooLarge
      case .notPrimary: .notPrimaryLessor
      }
  }

  public init(_ error: MembershipError) {
    self =
      switch error {
      case .idRemoved, .idNotFound: .memberNotFound
      case .idExists: .memberExists
      case .peerURLExists: .peerURLExists
      case .notLearner: .memberNotLearner
      case .tooManyLearners: .tooManyLearners
      case .malformed(let reason): EtcdError(.internal, reason)
      }
  }
}
