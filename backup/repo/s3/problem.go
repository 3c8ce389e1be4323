package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/minio/minio-go/v7"

	"holdfast/backup/repo"
)

// explain turns an answer of the server into a sentence that says what to do.
// A missing object is repo.ErrNotExist.
func (s *Storage) explain(doing string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	answer := minio.ToErrorResponse(err)
	if answer.Code == minio.NoSuchKey || answer.Code == "NoSuchVersion" {
		return fmt.Errorf("%s: %w", doing, repo.ErrNotExist)
	}
	switch answer.Code {
	case "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage":
		// Told like a full disk, so that whoever asks for that finds it.
		return fmt.Errorf("the bucket %s is full (%s: %w: %w)", s.config.Bucket, doing, err, syscall.EDQUOT)
	}
	if text := s.advice(answer); text != "" {
		return fmt.Errorf("%s (%s: %w)", text, doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// advice is the sentence for an answer, or "".
func (s *Storage) advice(answer minio.ErrorResponse) string {
	bucket, server := s.config.Bucket, s.server()
	switch answer.Code {
	case minio.NoSuchBucket:
		return fmt.Sprintf("there is no bucket %s at %s: make it, or correct -repository", bucket, server)
	case "InvalidAccessKeyId", "XAdminUserNotFound":
		return fmt.Sprintf("%s does not know the access key: check HOLDFAST_S3_ACCESS_KEY", server)
	case "SignatureDoesNotMatch":
		return fmt.Sprintf("%s refuses the signature: check HOLDFAST_S3_SECRET_KEY", server)
	case "RequestTimeTooSkewed":
		return "the clock of this machine differs from the server's by more than 15 minutes: set it, best by NTP"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "InvalidRegion", "IllegalLocationConstraintException", "InvalidLocationConstraint":
		region := "the region of the bucket"
		if answer.Region != "" {
			region = "region=" + answer.Region
		}
		return fmt.Sprintf("the bucket %s is in another region than %s: put %s into -repository", bucket, s.region(), region)
	case "ExpiredToken", "InvalidToken":
		return "the credentials have ended: renew them"
	case "SlowDown", "ServiceUnavailable", "InternalError":
		return fmt.Sprintf("%s is overloaded or being repaired, and stayed so for %d tries", server, minio.MaxRetry)
	case "NotImplemented":
		return fmt.Sprintf("%s can't do what Holdfast needs (conditional PUT, ranges, and object lock if it is set)", server)
	case minio.AccessDenied, "AllAccessDisabled", "Forbidden":
		return fmt.Sprintf("access to the bucket %s is denied: the account needs s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on it, "+
			"and with -object-lock also s3:GetBucketObjectLockConfiguration, s3:GetObjectRetention, s3:PutObjectRetention and s3:DeleteObjectVersion", bucket)
	}
	if answer.StatusCode == http.StatusForbidden {
		return fmt.Sprintf("access to the bucket %s is denied", bucket)
	}
	if answer.StatusCode == 0 {
		return fmt.Sprintf("%s can't be reached", server)
	}
	return ""
}

func (s *Storage) region() string {
	if s.config.Region == "" {
		return "us-east-1, the default"
	}
	return s.config.Region
}
