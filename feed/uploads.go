package feed

import (
	"context"
	"errors"
	"time"

	"hayloft/internal/id"
)

// BeginUpload reserves a photo id and records what its upload URL binds.
func (f *Feed) BeginUpload(ctx context.Context, owner id.ID, spec UploadSpec) (id.ID, error) {
	if spec.Size <= 0 {
		return 0, Invalid{"file_size", "must be positive"}
	}
	if spec.ContentType == "" {
		return 0, Invalid{"content_type", "is missing"}
	}
	if !spec.ExpiresAt.After(f.now()) {
		return 0, Invalid{"expires_at", "lies in the past"}
	}
	spec.ExpiresAt = spec.ExpiresAt.Add(f.behind().Truncate(time.Second))
	photo, err := f.newID(ctx)
	if err != nil {
		return 0, err
	}
	cmd := &cmdBeginUpload{Photo: photo, Owner: owner, Upload: spec, Due: spec.ExpiresAt.Add(f.policy.UploadSlack)}
	out, err := f.propose(ctx, cmd)
	return out.ID, err
}

// Upload returns what is known of an upload. Once the bytes are stored the
// Spec says what was stored, with the announced expiry.
func (f *Feed) Upload(ctx context.Context, photo id.ID) (Upload, error) {
	var out Upload
	err := f.readSure(ctx, func(v *view) error {
		p, err := v.photo(photo)
		if err != nil || p == nil || p.Purging {
			return firstErr(err, ErrNotFound)
		}
		out = Upload{Photo: p.ID, Owner: p.Author, Status: p.Status}
		if p.Upload != nil {
			out.Spec = *p.Upload
		}
		if p.Status == Reserved {
			return nil
		}
		digest := p.Master.Digest
		out.Spec = UploadSpec{Size: p.Master.Size, ContentType: p.Master.ContentType, Digest: &digest, ExpiresAt: out.Spec.ExpiresAt}
		return nil
	})
	return out, err
}

// Intend commits the intent to write blob for photo, before any byte is
// appended. What is not attached within Policy.IntentLife is reclaimed.
func (f *Feed) Intend(ctx context.Context, photo, blob id.ID) error {
	if blob == 0 {
		return Invalid{"blob", "is missing"}
	}
	cmd := &cmdIntend{Photo: photo, Blob: blob, Due: f.due(f.behind() + f.policy.IntentLife)}
	_, err := f.propose(withoutIdempotency(ctx), cmd)
	return err
}

// Stored attaches the durable master. With details it finalizes in the same
// command (Pending), else the photo is Stored. The same call again succeeds.
// ErrStored: there is another master already; ErrExpired: the intent or the
// upload has ended. In both cases m's blob is reclaimed by itself.
func (f *Feed) Stored(ctx context.Context, photo id.ID, m Master, details *Details) error {
	if m.Blob == 0 || m.Cookie == 0 || m.Size <= 0 || m.Digest == [32]byte{} || m.Width <= 0 || m.Height <= 0 {
		return Invalid{"master", "is incomplete"}
	}
	cmd := &cmdStored{Photo: photo, Master: m, Due: f.due(f.behind() + f.policy.StoredLife)}
	if details != nil {
		d, err := f.checkDetails(ctx, *details)
		if err != nil {
			return err
		}
		cmd.Details = &d
	}
	_, err := f.propose(ctx, cmd)
	return err
}

// checkDetails checks an author's words and that the people exist.
func (f *Feed) checkDetails(ctx context.Context, d Details) (Details, error) {
	d, err := f.policy.Limits.checkDetails(d)
	if err != nil {
		return d, err
	}
	return d, f.checkPeople(ctx, d.People)
}

func (f *Feed) checkPeople(ctx context.Context, people []id.ID) error {
	if len(people) == 0 {
		return nil
	}
	return f.serve(ctx, func(v *view) error {
		for _, p := range people {
			_, err := v.mustAccount(p)
			if errors.Is(err, ErrNotFound) {
				return Invalid{"people", "no user " + p.String()}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Finalize makes a stored photo pending; the same call again returns the photo.
func (f *Feed) Finalize(ctx context.Context, owner, photo id.ID, d Details) (PhotoView, error) {
	d, err := f.checkDetails(ctx, d)
	if err != nil {
		return PhotoView{}, err
	}
	out, err := f.propose(ctx, &cmdFinalize{Owner: owner, Photo: photo, Details: d})
	if err != nil {
		return PhotoView{}, err
	}
	return f.Photo(ctx, owner, out.ID)
}

// Master returns the photo whose variants are to be made, for the worker. Look
// at its Status: only a Pending photo waits. A deleted one is ErrNotFound.
func (f *Feed) Master(ctx context.Context, photo id.ID) (Photo, error) {
	var out Photo
	err := f.serve(ctx, func(v *view) error {
		p, err := v.photo(photo)
		if err != nil || p == nil || p.Status == Deleted || p.Master.Blob == 0 {
			return firstErr(err, ErrNotFound)
		}
		out = p.Photo
		return nil
	})
	return out, err
}

// MarkReady attaches the rendition, publishes the photo and completes its
// transcode effect in one command. The same call again succeeds. ErrNotFound:
// deleted meanwhile; ErrConflict: not pending any more; ErrExpired: the blob's
// intent has ended. In these cases the blob is reclaimed by itself.
func (f *Feed) MarkReady(ctx context.Context, photo id.ID, r Rendition) error {
	if r.Blob == 0 || r.Cookie == 0 || len(r.Variants) == 0 {
		return Invalid{"rendition", "is incomplete"}
	}
	pos, err := f.newID(ctx)
	if err != nil {
		return err
	}
	_, err = f.propose(ctx, &cmdReady{Photo: photo, Rendition: r, Pos: pos, Threshold: f.policy.CelebrityThreshold})
	return err
}

// MarkFailed records why a photo has no variants and completes its transcode
// effect.
func (f *Feed) MarkFailed(ctx context.Context, photo id.ID, why Failure) error {
	_, err := f.propose(ctx, &cmdFailed{Photo: photo, Failure: why})
	return err
}
