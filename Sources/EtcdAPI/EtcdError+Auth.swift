// Users, roles and permissions.

extension EtcdError {
  package static let rootUserMissing = EtcdError(
    .failedPrecondition, "etcdserver: root user does not exist")
  package static let rootRoleMissing = EtcdError(
    .failedPrecondition, "etcdserver: root user does not have root role")
  package static let userExists = EtcdError(
    .failedPrecondition, "etcdserver: user name already exists")
  package static let userEmpty = EtcdError(.invalidArgument, "etcdserver: user name is empty")
  package static let userNotFound = EtcdError(
    .failedPrecondition, "etcdserver: user name not found")
  package static let roleExists = EtcdError(
    .failedPrecondition, "etcdserver: role name already exists")
  package static let roleEmpty = EtcdError(.invalidArgument, "etcdserver: role name is empty")
  package static let roleNotFound = EtcdError(
    .failedPrecondition, "etcdserver: role name not found")
  package static let roleNotGranted = EtcdError(
    .failedPrecondition, "etcdserver: role is not granted to the user")
  package static let permissionNotGranted = EtcdError(
    .failedPrecondition, "etcdserver: permission is not granted to the role")
  package static let permissionNotGiven = EtcdError(
    .invalidArgument, "etcdserver: permission not given")
  package static let permissionDenied = EtcdError(
    .permissionDenied, "etcdserver: permission denied")
  package static let authFailed = EtcdError(
    .invalidArgument, "etcdserver: authentication failed, invalid user ID or password")
  package static let authNotEnabled = EtcdError(
    .failedPrecondition, "etcdserver: authentication is not enabled")
  package static let invalidAuthToken = EtcdError(
    .unauthenticated, "etcdserver: invalid auth token")
  package static let invalidAuthManagement = EtcdError(
    .invalidArgument, "etcdserver: invalid auth management")
  package static let authRevisionOld = EtcdError(
    .invalidArgument, "etcdserver: revision of auth store is old")

  // Those that etcd has forgotten to give a code.
  package static let noPasswordUser = EtcdError(
    .unknown, "auth: authentication failed, password was given for no password user")
  package static let tokenVerifyOnly = EtcdError(
    .unknown, "auth: token signing attempted with verify-only key")
  package static let passwordTooLong = EtcdError(
    .unknown, "bcrypt: password length exceeds 72 bytes")
}
