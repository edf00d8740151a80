from streaming_asr.cli import main

raise SystemExit(main())
